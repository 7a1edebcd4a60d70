//! Cuts what the recorder writes into parts that begin with a header or a cluster. The recorder hands out bytes whenever its
//! time is up, in the middle of an element too: the rest of such an element goes into the next part.

use greenroom_contracts::webm::{Head, Read, head, id};

/// Ten seconds of sound are 80 kB in hundreds of blocks; nothing in them comes near this.
const LARGEST_ELEMENT: u64 = 1 << 20;
/// A size that says: until the next element of this kind.
const UNKNOWN_SIZE: [u8; 8] = [0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];

/// The bytes are not a live WebM stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not a WebM stream: {0}")]
pub struct NotWebm(pub &'static str);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before the header.
    Start,
    /// Behind the header.
    Header,
    /// In the segment.
    Segment,
    /// In a cluster that has not told its time yet.
    NewCluster,
    /// In a cluster.
    Cluster,
}

/// One stream of one recorder.
#[derive(Debug)]
pub struct Framer {
    place: Place,
    /// What came of an element that is not whole yet.
    rest: Vec<u8>,
    /// The header and what follows it, until there is a cluster: a part must not begin behind the header.
    pending: Vec<u8>,
    /// The head of the current cluster and its time. Blocks count from this time, so that a part which goes on with a
    /// cluster begins with the same cluster again.
    cluster: Vec<u8>,
}

impl Default for Framer {
    fn default() -> Self {
        Self { place: Place::Start, rest: Vec::new(), pending: Vec::new(), cluster: Vec::new() }
    }
}

impl Framer {
    /// Takes bytes and returns the part that they complete; it is empty when they complete no element.
    ///
    /// # Errors
    /// When they do not go on as a WebM stream does. The framer is of no use after that.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Vec<u8>, NotWebm> {
        self.rest.extend_from_slice(bytes);
        let mut part = std::mem::take(&mut self.pending);
        if self.place == Place::Cluster {
            part.extend_from_slice(&self.cluster);
        }
        let begun = part.len();
        let mut used = 0;
        loop {
            let left = &self.rest[used..];
            let element = match head(left) {
                Read::Head(element) => element,
                Read::Incomplete => break,
                Read::Invalid => return Err(NotWebm("no element")),
            };
            match (self.place, element.id) {
                (Place::Header, id::SEGMENT) => {
                    part.extend_from_slice(&id::SEGMENT.to_be_bytes());
                    part.extend_from_slice(&UNKNOWN_SIZE);
                    self.place = Place::Segment;
                    used += element.length;
                }
                // A new cluster in a part that holds nothing of the one before: that one need not be begun again.
                (Place::Segment | Place::Cluster, id::CLUSTER) => {
                    if self.place == Place::Cluster && part.len() == begun {
                        part.clear();
                    }
                    self.place = Place::NewCluster;
                    used += element.length;
                }
                (place, _) => {
                    let after = after(place, element.id)?;
                    let Some(whole) = whole(left, element)? else { break };
                    if place == Place::NewCluster {
                        self.cluster.clear();
                        self.cluster.extend_from_slice(&id::CLUSTER.to_be_bytes());
                        self.cluster.extend_from_slice(&UNKNOWN_SIZE);
                        self.cluster.extend_from_slice(whole);
                        part.extend_from_slice(&self.cluster);
                    } else if keeps(place, element.id) {
                        part.extend_from_slice(whole);
                    }
                    self.place = after;
                    used += whole.len();
                }
            }
        }
        self.rest.drain(..used);
        if self.cluster.is_empty() {
            if part.len() as u64 > LARGEST_ELEMENT {
                return Err(NotWebm("the header is too large"));
            }
            self.pending = part;
            return Ok(Vec::new());
        }
        // Nothing but the cluster that would go on.
        if part == self.cluster {
            part.clear();
        }
        Ok(part)
    }
}

/// The element with its content, once all of it is there.
fn whole(bytes: &[u8], element: Head) -> Result<Option<&[u8]>, NotWebm> {
    let size = element.size.filter(|size| *size <= LARGEST_ELEMENT).ok_or(NotWebm("an element is too large"))?;
    let size = usize::try_from(size).map_err(|_| NotWebm("an element is too large"))?;
    Ok(bytes.get(..element.length + size))
}

/// Where an element leads to that stands at a place.
fn after(place: Place, id: u32) -> Result<Place, NotWebm> {
    match place {
        Place::Start if id == id::EBML => Ok(Place::Header),
        Place::Start => Err(NotWebm("no header")),
        Place::Header => Err(NotWebm("no segment")),
        Place::Segment if id == id::EBML || id == id::SEGMENT => Err(NotWebm("a header in the middle")),
        Place::Segment => Ok(Place::Segment),
        Place::NewCluster if id == id::TIMECODE => Ok(Place::Cluster),
        Place::NewCluster => Err(NotWebm("a cluster without a time")),
        Place::Cluster if id == id::EBML || id == id::SEGMENT => Err(NotWebm("a header in the middle")),
        Place::Cluster => Ok(Place::Cluster),
    }
}

/// In a cluster only frames matter: what else may stand there tells of positions in the file, which change.
fn keeps(place: Place, id: u32) -> bool {
    place != Place::Cluster || matches!(id, id::SIMPLE_BLOCK | id::BLOCK_GROUP)
}

#[cfg(test)]
mod tests {
    use greenroom_contracts::webm::{Beginning, beginning};

    use super::*;

    fn element(id: &[u8], content: &[u8]) -> Vec<u8> {
        let size = u8::try_from(content.len()).unwrap();
        [id, &[0x40, size][..], content].concat()
    }

    fn block(n: u8) -> Vec<u8> {
        element(&[0xA3], &[0x81, 0, n, 0x80, n, n, n])
    }

    fn cluster(time: u8, blocks: std::ops::Range<u8>) -> Vec<u8> {
        let mut bytes = b"\x1f\x43\xb6\x75\x01\xff\xff\xff\xff\xff\xff\xff".to_vec();
        bytes.extend(element(&[0xE7], &[time]));
        bytes.extend(blocks.flat_map(block));
        bytes
    }

    fn header() -> Vec<u8> {
        let mut bytes = element(&[0x1A, 0x45, 0xDF, 0xA3], &element(&[0x42, 0x82], b"webm"));
        bytes.extend(b"\x18\x53\x80\x67\x01\xff\xff\xff\xff\xff\xff\xff");
        bytes.extend(element(&[0x15, 0x49, 0xA9, 0x66], b"info"));
        bytes.extend(element(&[0x16, 0x54, 0xAE, 0x6B], b"tracks"));
        bytes
    }

    fn stream() -> Vec<u8> {
        [header(), cluster(0, 0..6), cluster(9, 6..9)].concat()
    }

    /// The frames of parts, each with the time of its cluster.
    fn frames(bytes: &[u8]) -> Vec<(u8, u8)> {
        let (mut frames, mut time, mut at) = (Vec::new(), 0, 0);
        while at < bytes.len() {
            let Read::Head(element) = head(&bytes[at..]) else { panic!("no element at {at}") };
            at += element.length;
            match element.id {
                id::SEGMENT | id::CLUSTER => continue,
                id::TIMECODE => time = bytes[at],
                id::SIMPLE_BLOCK => frames.push((time, bytes[at + 4])),
                _ => {}
            }
            at += usize::try_from(element.size.unwrap()).unwrap();
        }
        frames
    }

    #[test]
    fn parts_start_at_valid_boundaries_and_lose_no_data() {
        let stream = stream();
        let expected = frames(&stream);
        assert_eq!(expected.len(), 9);
        for size in 1..=stream.len() {
            let mut framer = Framer::default();
            let parts: Vec<_> = stream.chunks(size).map(|bytes| framer.feed(bytes).unwrap()).collect();
            let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
            assert_eq!(beginning(&parts[0]), Some(Beginning::Header), "{size}");
            for part in &parts[1..] {
                assert_eq!(beginning(part), Some(Beginning::Cluster), "{size}: {part:x?}");
            }
            assert_eq!(frames(&parts.concat()), expected, "{size}");
        }
    }

    #[test]
    fn a_part_that_goes_on_with_a_cluster_begins_with_it_again() {
        let mut framer = Framer::default();
        let stream = stream();
        let cut = header().len() + cluster(0, 0..2).len() + 1;
        let first = framer.feed(&stream[..cut]).unwrap();
        let second = framer.feed(&stream[cut..]).unwrap();
        assert_eq!((beginning(&first), beginning(&second)), (Some(Beginning::Header), Some(Beginning::Cluster)));
        assert_eq!((first.len(), second.len()), (cut - 1, [cluster(0, 2..6), cluster(9, 6..9)].concat().len()));
        assert_eq!(framer.feed(b"").unwrap(), b"");
    }

    #[test]
    fn invalid_streams_are_refused() {
        let large = [&b"\x1a\x45\xdf\xa3\x10\xff\xff\xff"[..], b"x"].concat();
        for (bytes, why) in [
            (b"<MPD><BaseURL>/etc/passwd</BaseURL></MPD>".to_vec(), "no header"),
            (b"ffconcat version 1.0\n".to_vec(), "no header"),
            (b"\x00".to_vec(), "no element"),
            (cluster(0, 0..1), "no header"),
            (large, "an element is too large"),
            ([header(), header()].concat(), "a header in the middle"),
            ([stream(), header()].concat(), "a header in the middle"),
            ([header(), cluster(0, 0..1)[..12].to_vec(), block(1)].concat(), "a cluster without a time"),
        ] {
            assert_eq!(Framer::default().feed(&bytes), Err(NotWebm(why)), "{bytes:x?}");
        }
    }

    #[test]
    fn no_bytes_make_it_fail_otherwise() {
        // A generator of its own: the same bytes in every run.
        let mut state = 0x2545_F491_4F6C_DD1D_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for _ in 0..20_000 {
            let mut bytes = stream();
            for _ in 0..next() % 4 {
                let at = usize::try_from(next()).unwrap() % bytes.len();
                bytes[at] = u8::try_from(next() % 256).unwrap();
            }
            let mut framer = Framer::default();
            let size = usize::try_from(next() % 60).unwrap() + 1;
            for chunk in bytes.chunks(size) {
                if framer.feed(chunk).is_err() {
                    break;
                }
                assert!(framer.rest.len() <= bytes.len());
            }
        }
    }
}
