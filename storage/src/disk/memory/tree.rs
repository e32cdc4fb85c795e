//! Directories of the memory disk: visible names, durable names, and the changes between.
//!
//! A change is atomic: a rename takes its name away and gives the new one, or does neither.
//! A directory is kept by reference, so that renaming it takes its content along.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use super::super::{DirEntry, parent};
use super::content::Content;
use super::faults::CrashPlan;

#[derive(Clone)]
pub(super) enum Node {
    File(Arc<Mutex<Content>>),
    Dir(Arc<Mutex<Dir>>),
}

#[derive(Default)]
pub(super) struct Dir {
    visible: BTreeMap<String, Node>,
    durable: BTreeMap<String, Node>,
}

pub(super) struct Tree {
    tracked: bool,
    root: Arc<Mutex<Dir>>,
    /// Changes of names that no `sync_dir` has covered, oldest first.
    pending: Vec<Change>,
}

struct Change {
    sequence: u64,
    entries: Vec<Entry>,
}

/// `name` in `dir` becomes `node`, or nothing.
struct Entry {
    dir: Arc<Mutex<Dir>>,
    name: String,
    node: Option<Node>,
}

impl Tree {
    pub(super) fn new(tracked: bool) -> Tree {
        Tree {
            tracked,
            root: Arc::default(),
            pending: Vec::new(),
        }
    }

    pub(super) fn new_dir(&self) -> Node {
        Node::Dir(Arc::default())
    }

    pub(super) fn node(&self, path: &str) -> io::Result<Node> {
        let mut node = Node::Dir(Arc::clone(&self.root));
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let Node::Dir(dir) = node else {
                return Err(io::ErrorKind::NotADirectory.into());
            };
            let child = dir.lock().visible.get(name).cloned();
            node = child.ok_or_else(|| not_found(path))?;
        }
        Ok(node)
    }

    pub(super) fn dir(&self, path: &str) -> io::Result<Arc<Mutex<Dir>>> {
        match self.node(path)? {
            Node::Dir(dir) => Ok(dir),
            Node::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    pub(super) fn file(&self, path: &str) -> io::Result<Arc<Mutex<Content>>> {
        match self.node(path)? {
            Node::File(content) => Ok(content),
            Node::Dir(_) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    pub(super) fn list(&self, path: &str) -> io::Result<Vec<DirEntry>> {
        let dir = self.dir(path)?;
        let dir = dir.lock();
        let entry = |(name, node): (&String, &Node)| match node {
            Node::File(content) => {
                let len_bytes = content.lock().len_bytes();
                DirEntry {
                    name: name.clone(),
                    is_dir: false,
                    len_bytes,
                }
            }
            Node::Dir(_) => DirEntry {
                name: name.clone(),
                is_dir: true,
                len_bytes: 0,
            },
        };
        Ok(dir.visible.iter().map(entry).collect())
    }

    pub(super) fn insert(&mut self, path: &str, node: Node, sequence: u64) -> io::Result<()> {
        let (dir, name) = self.place(path)?;
        if dir.lock().visible.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.apply(
            sequence,
            vec![Entry {
                dir,
                name: name.to_owned(),
                node: Some(node),
            }],
        );
        Ok(())
    }

    /// Takes a file or an empty directory away.
    pub(super) fn unlink(&mut self, path: &str, sequence: u64) -> io::Result<()> {
        if let Node::Dir(dir) = self.node(path)?
            && !dir.lock().visible.is_empty()
        {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        let (dir, name) = self.place(path)?;
        self.apply(
            sequence,
            vec![Entry {
                dir,
                name: name.to_owned(),
                node: None,
            }],
        );
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &str, to: &str, sequence: u64) -> io::Result<()> {
        let node = self.node(from)?;
        let (from_dir, from_name) = self.place(from)?;
        let (to_dir, to_name) = self.place(to)?;
        if from == to {
            return Ok(());
        }
        let replaced = to_dir.lock().visible.get(to_name).cloned();
        match (&node, replaced) {
            (_, None) | (Node::File(_), Some(Node::File(_))) => {}
            (Node::Dir(_), Some(Node::Dir(dir))) if dir.lock().visible.is_empty() => {}
            (Node::Dir(_), Some(Node::Dir(_))) => {
                return Err(io::ErrorKind::DirectoryNotEmpty.into());
            }
            (Node::Dir(_), Some(Node::File(_))) => {
                return Err(io::ErrorKind::NotADirectory.into());
            }
            (Node::File(_), Some(Node::Dir(_))) => return Err(io::ErrorKind::IsADirectory.into()),
        }
        let take = Entry {
            dir: from_dir,
            name: from_name.to_owned(),
            node: None,
        };
        let give = Entry {
            dir: to_dir,
            name: to_name.to_owned(),
            node: Some(node),
        };
        self.apply(sequence, vec![take, give]);
        Ok(())
    }

    pub(super) fn sync_dir(&mut self, path: &str) -> io::Result<()> {
        let mut covered = vec![self.dir(path)?];
        // Newest first: a change that is covered drags along older ones of the directories it
        // touches, or an older name could come back over a newer one.
        let mut synced = Vec::new();
        let mut kept = Vec::new();
        for change in std::mem::take(&mut self.pending).into_iter().rev() {
            let touches = |dir| {
                change
                    .entries
                    .iter()
                    .any(|entry| Arc::ptr_eq(&entry.dir, dir))
            };
            if covered.iter().any(touches) {
                covered.extend(change.entries.iter().map(|entry| Arc::clone(&entry.dir)));
                synced.push(change);
            } else {
                kept.push(change);
            }
        }
        kept.reverse();
        self.pending = kept;
        for change in synced.into_iter().rev() {
            change.make_durable();
        }
        Ok(())
    }

    pub(super) fn crash(&mut self, plan: &mut CrashPlan) {
        for change in std::mem::take(&mut self.pending) {
            if plan.survives(change.sequence) {
                change.make_durable();
            }
        }
        crash_dir(&self.root, plan);
    }

    pub(super) fn used_bytes(&self) -> u64 {
        used_bytes(&self.root)
    }

    /// The directory a path lies in and its name there.
    fn place<'a>(&self, path: &'a str) -> io::Result<(Arc<Mutex<Dir>>, &'a str)> {
        let name = path.rsplit('/').next().unwrap_or_default();
        if name.is_empty() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok((self.dir(parent(path))?, name))
    }

    fn apply(&mut self, sequence: u64, entries: Vec<Entry>) {
        for Entry { dir, name, node } in &entries {
            set(&mut dir.lock().visible, name, node);
        }
        if self.tracked {
            self.pending.push(Change { sequence, entries });
        }
    }
}

impl Change {
    fn make_durable(self) {
        for Entry { dir, name, node } in &self.entries {
            set(&mut dir.lock().durable, name, node);
        }
    }
}

fn set(names: &mut BTreeMap<String, Node>, name: &str, node: &Option<Node>) {
    match node {
        Some(node) => names.insert(name.to_owned(), node.clone()),
        None => names.remove(name),
    };
}

fn crash_dir(dir: &Mutex<Dir>, plan: &mut CrashPlan) {
    let dir = &mut *dir.lock();
    dir.visible = dir.durable.clone();
    for node in dir.visible.values() {
        match node {
            Node::File(content) => content.lock().crash(plan),
            Node::Dir(child) => crash_dir(child, plan),
        }
    }
}

fn used_bytes(dir: &Mutex<Dir>) -> u64 {
    let size = |node: &Node| match node {
        Node::File(content) => content.lock().allocated_bytes(),
        Node::Dir(child) => used_bytes(child),
    };
    dir.lock().visible.values().map(size).sum()
}

fn not_found(path: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::NotFound,
        format!("no such file or directory: {path}"),
    )
}
