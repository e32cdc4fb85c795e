//! RE2's syntax in the words of the crate `regex`, where the two differ: quoting with `\Q..\E`,
//! braces that are no repetition, and brackets or doubled operators within a class, which are
//! plain characters in RE2.

/// The same expression; what is wrong with it stays wrong.
pub(super) fn translated(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern;
    while let Some(next) = rest.chars().next() {
        let taken = if let Some(quoted) = rest.strip_prefix(r"\Q") {
            let (text, len) = match quoted.split_once(r"\E") {
                Some((text, _)) => (text, text.len() + 4),
                None => (quoted, rest.len()),
            };
            out.push_str(&regex::escape(text));
            len
        } else if next == '\\' {
            escape(rest, &mut out)
        } else if next == '[' {
            class(rest, &mut out)
        } else if next == '{' && !is_repetition(rest) {
            out.push_str(r"\{");
            1
        } else {
            out.push(next);
            next.len_utf8()
        };
        rest = rest.get(taken..).unwrap_or_default();
    }
    out
}

/// A backslash and what it escapes.
fn escape(rest: &str, out: &mut String) -> usize {
    let len = rest.chars().take(2).map(char::len_utf8).sum();
    out.push_str(rest.get(..len).unwrap_or(rest));
    len
}

/// `{2}`, `{2,}` or `{2,3}`.
fn is_repetition(rest: &str) -> bool {
    let Some((inner, _)) = rest.strip_prefix('{').and_then(|rest| rest.split_once('}')) else {
        return false;
    };
    let (least, most) = inner.split_once(',').unwrap_or((inner, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    !least.is_empty() && is_number(least) && is_number(most)
}

/// A class from its bracket to the end; without an end the rest is left as it is.
fn class(rest: &str, out: &mut String) -> usize {
    let mut at = 1;
    out.push('[');
    if rest.get(at..).is_some_and(|rest| rest.starts_with('^')) {
        out.push('^');
        at += 1;
    }
    let first = at;
    while let Some(tail) = rest.get(at..).filter(|tail| !tail.is_empty()) {
        let Some(next) = tail.chars().next() else {
            break;
        };
        if next == ']' && at > first {
            out.push(']');
            return at + 1;
        }
        if next == '\\' {
            at += escape(tail, out);
            continue;
        }
        let named = tail.starts_with("[:").then(|| tail.find(":]")).flatten();
        if let Some(end) = named {
            out.push_str(tail.get(..end + 2).unwrap_or(tail));
            at += end + 2;
            continue;
        }
        if matches!(next, '[' | ']' | '&' | '~') || (next == '-' && tail.starts_with("--")) {
            out.push('\\');
        }
        out.push(next);
        at += next.len_utf8();
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::super::regex::compile;

    fn matches(pattern: &str, name: &str) -> bool {
        compile(pattern).unwrap().is_match(name.as_bytes())
    }

    #[test]
    fn the_whole_name_must_match() {
        assert!(matches("orders.*", "orders-eu"));
        assert!(!matches("orders", "orders-eu"));
        assert!(matches("a|ab", "ab"));
        assert!(!matches("b", "ab"));
        assert!(matches("", ""));
        assert!(!matches("", "a"));
        assert!(matches("^a$", "a"));
    }

    #[test]
    fn what_re2_reads_differently_is_read_as_re2_does() {
        assert!(matches(r"\Qa.b\E.", "a.bc"));
        assert!(!matches(r"\Qa.b\E", "axb"));
        assert!(matches(r"\Qa+", "a+"));
        assert!(matches("a{", "a{"));
        assert!(matches("a{,2}", "a{,2}"));
        assert!(matches("a{2,3}", "aaa"));
        assert!(matches("[[a]", "["));
        assert!(matches("[a&&b]", "&"));
        assert!(matches("[]a]", "]"));
        assert!(matches("[^]a]", "b"));
        assert!(matches("[[:alpha:]]+", "abc"));
        assert!(matches(r"[\]a]", "]"));
        assert!(matches("(?i)ORDERS", "orders"));
        assert!(matches(r"\d\w\.", "1a."));
        assert!(matches("(?x)a # a comment", "a"));
        assert!(matches("(?P<n>a)(?:b)", "ab"));
    }

    #[test]
    fn what_is_wrong_in_re2_is_refused() {
        for pattern in [
            "(",
            "[a",
            r"\8",
            "(?=a)",
            "(?<!a)",
            "*a",
            "a{2000000}",
            r"(a)\1",
        ] {
            let refusal = compile(pattern).unwrap_err();
            assert_eq!(refusal.error.0, 128, "{pattern}");
            assert!(refusal.message.contains(pattern), "{}", refusal.message);
        }
    }

    #[test]
    fn a_large_expression_is_refused_and_a_nested_one_is_quick() {
        assert!(compile("((a{100}){100}){100}").is_err());
        assert!(compile(&"(".repeat(30_000)).is_err());
        assert!(!matches("(a*)*b", &"a".repeat(249)));
    }
}
