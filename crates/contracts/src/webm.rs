//! How a part of a recording begins. Whoever uploads a part and whoever stores it ask the same question, so that nothing
//! but WebM reaches the program that joins parts.

/// EBML ids, with their marker bits.
pub mod id {
    /// The header of a file.
    pub const EBML: u32 = 0x1A45_DFA3;
    /// In the header: what kind of file it is.
    pub const DOC_TYPE: u32 = 0x4282;
    /// All that follows the header.
    pub const SEGMENT: u32 = 0x1853_8067;
    /// Blocks that share a time.
    pub const CLUSTER: u32 = 0x1F43_B675;
    /// In a cluster: its time.
    pub const TIMECODE: u32 = 0xE7;
    /// In a cluster: one frame.
    pub const SIMPLE_BLOCK: u32 = 0xA3;
    /// In a cluster: one frame and what belongs to it.
    pub const BLOCK_GROUP: u32 = 0xA0;
}

/// A file's header is a few dozen bytes; a longer one did not come from a recorder.
const LONGEST_HEADER: u64 = 1024;

/// How a part begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beginning {
    /// A header of WebM or Matroska and its segment: the first part of a stream.
    Header,
    /// A cluster: a later part of a stream.
    Cluster,
}

/// The id and the size of an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The id, with its marker bits.
    pub id: u32,
    /// The size of the content in bytes; `None` is unknown.
    pub size: Option<u64>,
    /// How many bytes the head itself takes.
    pub length: usize,
}

/// What the bytes say about an element's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// A whole head.
    Head(Head),
    /// The head goes on after these bytes.
    Incomplete,
    /// Not EBML.
    Invalid,
}

/// Reads the head of an element.
#[must_use]
pub fn head(bytes: &[u8]) -> Read {
    let Some(&first) = bytes.first() else { return Read::Incomplete };
    let id_length = first.leading_zeros() as usize + 1;
    if id_length > 4 {
        return Read::Invalid;
    }
    let Some(id) = bytes.get(..id_length) else { return Read::Incomplete };
    let id = id.iter().fold(0_u32, |id, &byte| id << 8 | u32::from(byte));
    let Some(&first) = bytes.get(id_length) else { return Read::Incomplete };
    let size_length = first.leading_zeros() as usize + 1;
    if size_length > 8 {
        return Read::Invalid;
    }
    let Some(size) = bytes.get(id_length..id_length + size_length) else { return Read::Incomplete };
    let size = size.iter().fold(0_u64, |size, &byte| size << 8 | u64::from(byte));
    // Without the marker bit; all others set mean that the size is unknown.
    let most = (1_u64 << (7 * size_length)) - 1;
    let size = size & most;
    Read::Head(Head { id, size: (size != most).then_some(size), length: id_length + size_length })
}

/// Returns how a part begins; `None` when it is not a part of a WebM stream.
#[must_use]
pub fn beginning(part: &[u8]) -> Option<Beginning> {
    let Read::Head(first) = head(part) else { return None };
    match first.id {
        id::CLUSTER => Some(Beginning::Cluster),
        id::EBML => {
            let size = usize::try_from(first.size.filter(|size| *size <= LONGEST_HEADER)?).ok()?;
            let header = part.get(first.length..first.length + size)?;
            let Read::Head(segment) = head(&part[first.length + size..]) else { return None };
            let known = matches!(doc_type(header)?, b"webm" | b"matroska");
            (known && segment.id == id::SEGMENT).then_some(Beginning::Header)
        }
        _ => None,
    }
}

/// The document type that a header names.
fn doc_type(mut header: &[u8]) -> Option<&[u8]> {
    while let Read::Head(element) = head(header) {
        let size = usize::try_from(element.size?).ok()?;
        let content = header.get(element.length..element.length.checked_add(size)?)?;
        if element.id == id::DOC_TYPE {
            return Some(content);
        }
        header = &header[element.length + size..];
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The first bytes of what Chromium's MediaRecorder writes.
    const CHROMIUM: &[u8] =
        b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\xf7\x81\x01\x42\xf2\x81\x04\x42\xf3\x81\x08\x42\x82\x84webm\
        \x42\x87\x81\x04\x42\x85\x81\x02\x18\x53\x80\x67\x01\xff\xff\xff\xff\xff\xff\xff";

    #[test]
    fn parts_of_a_stream_are_told_from_everything_else() {
        let cluster = b"\x1f\x43\xb6\x75\x01\xff\xff\xff\xff\xff\xff\xff\xe7\x81\x00";
        let disguised = [&CHROMIUM[..24], b"webx", &CHROMIUM[28..]].concat();
        let long = [&CHROMIUM[..4], &b"\x48\x00"[..], &[0xEC; 4096]].concat();
        let cases: &[(&str, &[u8], Option<Beginning>)] = &[
            ("a header", CHROMIUM, Some(Beginning::Header)),
            ("a cluster", cluster, Some(Beginning::Cluster)),
            ("nothing", b"", None),
            ("half a header", &CHROMIUM[..30], None),
            ("a header without a segment", &CHROMIUM[..36], None),
            ("another document type", &disguised, None),
            ("a header that is too long", &long, None),
            ("half a cluster's head", b"\x1f\x43\xb6", None),
            ("the middle of a cluster", b"\xa3\x41\xe6\x81\x03\xfd\x80\xff\x03", None),
            ("the middle of a block", b"\x41\xe6\x81\x07\xbc\x80\xff\x03", None),
            ("a DASH manifest", b"<?xml version=\"1.0\"?><MPD><BaseURL>/etc/passwd</BaseURL></MPD>", None),
            ("a list for ffmpeg", b"ffconcat version 1.0\nfile 'attempt-1.webm'\n", None),
            ("an HLS playlist", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", None),
            (
                "a picture that names others",
                b"<svg xmlns='http://www.w3.org/2000/svg'><image href='/etc/x'/></svg>",
                None,
            ),
            ("MP4", b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00", None),
            ("WAV", b"RIFF\x24\x00\x00\x00WAVEfmt ", None),
            ("Ogg", b"OggS\x00\x02", None),
            ("a space before the header", b" \x1a\x45\xdf\xa3", None),
        ];
        for (what, bytes, expected) in cases {
            assert_eq!(beginning(bytes), *expected, "{what}");
        }
    }

    #[test]
    fn heads_are_read_in_every_length() {
        let cases: &[(&[u8], Read)] = &[
            (b"\xa3\x81", Read::Head(Head { id: 0xA3, size: Some(1), length: 2 })),
            (b"\x42\x82\x40\x02", Read::Head(Head { id: 0x4282, size: Some(2), length: 4 })),
            (b"\xa3\xff", Read::Head(Head { id: 0xA3, size: None, length: 2 })),
            (b"\xa3\x01\xff\xff\xff\xff\xff\xff\xff", Read::Head(Head { id: 0xA3, size: None, length: 9 })),
            (b"\xa3", Read::Incomplete),
            (b"\x42\x82\x40", Read::Incomplete),
            (b"\x08\x81", Read::Invalid),
            (b"\xa3\x00", Read::Invalid),
        ];
        for (bytes, expected) in cases {
            assert_eq!(head(bytes), *expected, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn only_ebml_is_taken_for_a_part(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(found) = beginning(&bytes) {
                let magic: &[u8] = match found { Beginning::Header => b"\x1a\x45\xdf\xa3", Beginning::Cluster => b"\x1f\x43\xb6\x75" };
                prop_assert!(bytes.starts_with(magic));
            }
        }

        #[test]
        fn a_changed_header_is_a_header_of_webm_or_none(at in 0..CHROMIUM.len(), byte in any::<u8>(), cut in 0..CHROMIUM.len()) {
            let mut bytes = CHROMIUM.to_vec();
            bytes[at] = byte;
            if beginning(&bytes) == Some(Beginning::Header) {
                prop_assert!(bytes.windows(4).any(|four| four == b"webm") || bytes.windows(8).any(|word| word == b"matroska"));
            }
            if cut < 37 {
                prop_assert_eq!(beginning(&CHROMIUM[..cut]), None);
            }
        }
    }
}
