# Sourced by the other scripts, and by hand (`. scripts/env.sh`): where builds go and what to link.
# Everything big lives in one cache outside the clone, so that a fresh clone starts warm.

OTTLA_CACHE="${OTTLA_CACHE:-$HOME/.cache/ottla}"
export OTTLA_CACHE
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$OTTLA_CACHE/target}"

ottla_root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
# The prebuilt archive of RocksDB, once scripts/rocksdb.sh has made it.
if rocksdb_dir="$("$ottla_root/scripts/rocksdb.sh" --path)" && [ -e "$rocksdb_dir/librocksdb.a" ]
then
    export ROCKSDB_LIB_DIR="$rocksdb_dir" ROCKSDB_STATIC=1
fi
unset rocksdb_dir

# step TEXT: what is being done, on standard error, so that a long command shows progress.
step() {
    printf '\n== %s\n' "$*" >&2
}
