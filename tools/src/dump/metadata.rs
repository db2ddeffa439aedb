//! What the server keeps of a PUT's headers, as it lies in a record: entries of tag, length, value.
//! Unknown entries are kept in the manifest as they are, and cannot be pushed.

const TAG_CONTENT_TYPE: u8 = 1;
const TAG_CONTENT_ENCODING: u8 = 2;

/// The header fields that the metadata of an object stands for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Fields {
    pub(crate) content_type: Option<String>,
    pub(crate) content_encoding: Option<String>,
}

impl Fields {
    /// Reads the entries; one that cannot stand in a header is left out.
    pub(crate) fn of(mut metadata: &[u8]) -> Fields {
        let mut fields = Fields::default();
        while let [tag, len, rest @ ..] = metadata {
            let Some((value, tail)) = rest.split_at_checked(usize::from(*len)) else { break };
            metadata = tail;
            if !value.iter().all(|byte| matches!(byte, b' '..=b'~')) {
                continue;
            }
            let text = String::from_utf8_lossy(value).into_owned();
            match *tag {
                TAG_CONTENT_TYPE => fields.content_type = Some(text),
                TAG_CONTENT_ENCODING => fields.content_encoding = Some(text),
                _ => {}
            }
        }
        fields
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_read_and_what_is_unknown_or_torn_is_passed_over() {
        let mut bytes = vec![1, 9];
        bytes.extend_from_slice(b"video/mp4");
        bytes.extend_from_slice(&[9, 1, 0, 2, 4]);
        bytes.extend_from_slice(b"gzip");
        let fields = Fields::of(&bytes);
        assert_eq!(fields.content_type.as_deref(), Some("video/mp4"));
        assert_eq!(fields.content_encoding.as_deref(), Some("gzip"));
        bytes.extend_from_slice(&[1, 200, b'x']);
        assert_eq!(Fields::of(&bytes), fields);
        assert_eq!(Fields::of(b"\x01\x03a\r\n"), Fields::default(), "no header is smuggled in");
    }
}
