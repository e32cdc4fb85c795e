//! The %-grammar for records, for writing them (`consume -f`) and for reading them (`produce -f`).
//!
//! `%t` topic, `%p` partition, `%o` offset, `%k` key, `%v` value (`%s` is accepted too), `%h`
//! headers, `%d` timestamp, `%K` and `%V` lengths in bytes, `%%` a percent sign; `%k{hex}`,
//! `%v{hex}`, `%v{base64}` and `%v{json}` change the form; `\n`, `\t`, `\r`, `\0`, `\\` are as in
//! C. When reading, a field ends where the text behind it begins.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::fault::{Fault, Outcome};
use crate::values::show_time;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    Topic,
    Partition,
    Offset,
    Key,
    Value,
    Headers,
    Timestamp,
    KeySize,
    ValueSize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Raw,
    Hex,
    Base64,
    Json,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(Vec<u8>),
    Field(Field, Form),
}

/// A parsed format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RecordFormat {
    parts: Vec<Part>,
}

/// One record as the formats see it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) timestamp_ms: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl RecordFormat {
    pub(crate) fn parse(text: &str) -> Outcome<Self> {
        let mut parts = Vec::new();
        let mut literal = Vec::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '\\' => literal.push(match chars.next() {
                    Some('n') => b'\n',
                    Some('t') => b'\t',
                    Some('r') => b'\r',
                    Some('0') => 0,
                    Some('\\') => b'\\',
                    other => return Err(unknown("escape", '\\', other)),
                }),
                '%' if chars.peek() == Some(&'%') => {
                    chars.next();
                    literal.push(b'%');
                }
                '%' => {
                    let field = field_of(chars.next())?;
                    if !literal.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut literal)));
                    }
                    let mut form = Form::Raw;
                    if chars.peek() == Some(&'{') {
                        chars.next();
                        let name: String = chars.by_ref().take_while(|c| *c != '}').collect();
                        form = form_of(&name)?;
                    }
                    parts.push(Part::Field(field, form));
                }
                other => literal.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        Ok(Self { parts })
    }

    /// Appends `record` in this format.
    pub(crate) fn write(&self, record: &Record, into: &mut Vec<u8>) {
        for part in &self.parts {
            match part {
                Part::Text(text) => into.extend_from_slice(text),
                Part::Field(field, form) => write_field(*field, *form, record, into),
            }
        }
    }

    /// The byte that ends a record when reading: formats read records line by line.
    pub(crate) fn read_line(&self, line: &[u8]) -> Outcome<Record> {
        let mut record = Record {
            timestamp_ms: -1,
            partition: -1,
            ..Record::default()
        };
        let mut rest = line;
        for (index, part) in self.parts.iter().enumerate() {
            match part {
                Part::Text(text) => {
                    let text = text.strip_suffix(b"\n").unwrap_or(text);
                    rest = rest
                        .strip_prefix(text)
                        .ok_or_else(|| mismatch(text, rest))?;
                }
                Part::Field(field, form) => {
                    let until = match self.parts.get(index + 1) {
                        Some(Part::Text(text)) => text.strip_suffix(b"\n").unwrap_or(text),
                        Some(Part::Field(..)) => {
                            return Err(Fault::usage("two fields need some text between them"));
                        }
                        None => b"",
                    };
                    let end = match until {
                        b"" => rest.len(),
                        until => find(rest, until).ok_or_else(|| mismatch(until, rest))?,
                    };
                    let (bytes, after) = rest.split_at(end);
                    read_field(*field, *form, bytes, &mut record)?;
                    rest = after;
                }
            }
        }
        Ok(record)
    }
}

fn field_of(letter: Option<char>) -> Outcome<Field> {
    Ok(match letter {
        Some('t') => Field::Topic,
        Some('p') => Field::Partition,
        Some('o') => Field::Offset,
        Some('k') => Field::Key,
        Some('v' | 's') => Field::Value,
        Some('h') => Field::Headers,
        Some('d') => Field::Timestamp,
        Some('K') => Field::KeySize,
        Some('V' | 'S') => Field::ValueSize,
        Some('T') => {
            return Err(Fault::usage("%T means different things in different tools")
                .hint("use %d for the timestamp"));
        }
        other => return Err(unknown("field", '%', other)),
    })
}

fn form_of(name: &str) -> Outcome<Form> {
    Ok(match name {
        "hex" => Form::Hex,
        "base64" => Form::Base64,
        "json" => Form::Json,
        "" | "raw" => Form::Raw,
        _ => {
            return Err(Fault::usage(format!("{{{name}}} is not a form"))
                .hint("the forms are {hex}, {base64}, {json} and {raw}"));
        }
    })
}

fn unknown(what: &str, lead: char, letter: Option<char>) -> Fault {
    let shown = letter.map_or_else(String::new, String::from);
    Fault::usage(format!(
        "\"{lead}{shown}\" is not a {what} of a record format"
    ))
    .hint("fields: %t %p %o %k %v %h %d %K %V %%   escapes: \\n \\t \\r \\0 \\\\")
}

fn mismatch(text: &[u8], rest: &[u8]) -> Fault {
    Fault::new(
        "E1302",
        crate::fault::Exit::Failed,
        "an input line does not have the given format",
    )
    .why(format!(
        "\"{}\" is missing in \"{}\"",
        String::from_utf8_lossy(text).escape_debug(),
        String::from_utf8_lossy(&rest[..rest.len().min(60)]).escape_debug()
    ))
    .hint("nothing of that line was produced; see `ottla produce --help`, -f")
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}

fn write_field(field: Field, form: Form, record: &Record, into: &mut Vec<u8>) {
    let number = |n: i64, into: &mut Vec<u8>| into.extend_from_slice(n.to_string().as_bytes());
    let size = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(-1, |b| b.len() as i64);
    match field {
        Field::Topic => into.extend_from_slice(record.topic.as_bytes()),
        Field::Partition => number(i64::from(record.partition), into),
        Field::Offset => number(record.offset, into),
        Field::Timestamp if form == Form::Raw => number(record.timestamp_ms, into),
        Field::Timestamp => into.extend_from_slice(show_time(record.timestamp_ms).as_bytes()),
        Field::KeySize => number(size(&record.key), into),
        Field::ValueSize => number(size(&record.value), into),
        Field::Key => write_bytes(form, record.key.as_deref(), into),
        Field::Value => write_bytes(form, record.value.as_deref(), into),
        Field::Headers => {
            for (index, (key, value)) in record.headers.iter().enumerate() {
                if index > 0 {
                    into.push(b',');
                }
                into.extend_from_slice(key);
                into.push(b'=');
                write_bytes(form, value.as_deref(), into);
            }
        }
    }
}

fn write_bytes(form: Form, bytes: Option<&[u8]>, into: &mut Vec<u8>) {
    let raw = bytes.unwrap_or_default();
    match form {
        Form::Raw => into.extend_from_slice(raw),
        Form::Hex => into.extend(raw.iter().flat_map(|b| format!("{b:02x}").into_bytes())),
        Form::Base64 => into.extend_from_slice(BASE64.encode(raw).as_bytes()),
        Form::Json => into.extend_from_slice(json_text(bytes).to_string().as_bytes()),
    }
}

fn read_field(field: Field, form: Form, bytes: &[u8], record: &mut Record) -> Outcome {
    let text = || String::from_utf8_lossy(bytes);
    let wrong = |what: &str| {
        Fault::new(
            "E1302",
            crate::fault::Exit::Failed,
            format!("\"{}\" is not {what}", text()),
        )
    };
    let payload = || match form {
        Form::Raw | Form::Json => Ok(bytes.to_vec()),
        Form::Hex => decode_hex(bytes).ok_or_else(|| wrong("hexadecimal")),
        Form::Base64 => BASE64.decode(bytes).map_err(|_| wrong("base64")),
    };
    match field {
        Field::Topic => record.topic = text().into_owned(),
        Field::Partition => {
            record.partition = text().parse().map_err(|_| wrong("a partition number"))?;
        }
        Field::Timestamp => {
            record.timestamp_ms = text().parse().map_err(|_| wrong("a timestamp in ms"))?;
        }
        Field::Key => record.key = Some(payload()?),
        Field::Value => record.value = Some(payload()?),
        Field::Headers => record.headers = parse_headers(&text()),
        Field::Offset | Field::KeySize | Field::ValueSize => {
            return Err(Fault::usage("%o, %K and %V cannot be read back"));
        }
    }
    Ok(())
}

/// `a=1,b=2`; a header without `=` has a null value.
fn parse_headers(text: &str) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    text.split(',')
        .filter(|pair| !pair.is_empty())
        .map(|pair| match pair.split_once('=') {
            Some((key, value)) => (key.into(), Some(value.into())),
            None => (pair.into(), None),
        })
        .collect()
}

fn decode_hex(bytes: &[u8]) -> Option<Vec<u8>> {
    if !bytes.len().is_multiple_of(2) {
        return None;
    }
    let text = std::str::from_utf8(bytes).ok()?;
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok())
        .collect()
}

/// Bytes as JSON: null, text, or base64 in an object where the bytes are not text.
pub(crate) fn json_text(bytes: Option<&[u8]>) -> serde_json::Value {
    match bytes {
        None => serde_json::Value::Null,
        Some(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => text.into(),
            Err(_) => serde_json::json!({ "base64": BASE64.encode(bytes) }),
        },
    }
}

impl Record {
    /// `{topic, partition, offset, timestamp, key, value, headers}`, the shape of `-o json`.
    pub(crate) fn json(&self) -> serde_json::Value {
        let header = |(key, value): &(Vec<u8>, Option<Vec<u8>>)| {
            let (key, value) = (json_text(Some(key)), json_text(value.as_deref()));
            serde_json::json!({ "key": key, "value": value })
        };
        serde_json::json!({
            "topic": self.topic, "partition": self.partition, "offset": self.offset,
            "timestamp": self.timestamp_ms, "key": json_text(self.key.as_deref()),
            "value": json_text(self.value.as_deref()),
            "headers": self.headers.iter().map(header).collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(format: &str, record: &Record) -> String {
        let mut out = Vec::new();
        RecordFormat::parse(format).unwrap().write(record, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_field_is_written_in_its_form() {
        let record = Record {
            topic: "t".into(),
            partition: 2,
            offset: 7,
            timestamp_ms: 5,
            key: Some(b"k".to_vec()),
            value: None,
            headers: vec![(b"a".to_vec(), Some(b"1".to_vec())), (b"b".to_vec(), None)],
        };
        assert_eq!(
            written("%t/%p/%o %d %k=%v %K,%V [%h] 100%%\\n", &record),
            "t/2/7 5 k= 1,-1 [a=1,b=] 100%\n"
        );
        assert_eq!(
            written("%k{hex} %k{base64} %v{json}", &record),
            "6b aw== null"
        );
    }

    #[test]
    fn what_was_written_can_be_read_back() {
        let record = RecordFormat::parse("%k:%v\\n")
            .unwrap()
            .read_line(b"a:b:c")
            .unwrap();
        assert_eq!(record.key.as_deref(), Some(&b"a"[..]));
        assert_eq!(record.value.as_deref(), Some(&b"b:c"[..]));
        let hex = RecordFormat::parse("%p %k{hex}|%h|%v").unwrap();
        let record = hex.read_line(b"3 00ff|x=1,y|v").unwrap();
        assert_eq!(record.partition, 3);
        assert_eq!(record.key.as_deref(), Some(&[0, 255][..]));
        assert_eq!(
            record.headers,
            [(b"x".to_vec(), Some(b"1".to_vec())), (b"y".to_vec(), None)]
        );
    }

    #[test]
    fn a_line_of_another_form_is_refused_with_the_missing_text() {
        let fault = RecordFormat::parse("%k:%v")
            .unwrap()
            .read_line(b"no colon")
            .unwrap_err();
        assert!(fault.why.unwrap().contains("\":\" is missing"));
    }

    #[test]
    fn unknown_fields_escapes_and_forms_are_refused() {
        for format in ["%x", "%", "\\q", "%v{yaml}", "%T"] {
            assert!(RecordFormat::parse(format).is_err(), "{format}");
        }
    }
}
