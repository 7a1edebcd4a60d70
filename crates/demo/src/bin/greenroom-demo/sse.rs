//! Server-sent events: bytes in, events out.

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Event {
    /// The stream's position, to resume from.
    pub id: Option<String>,
    /// The data, lines joined.
    pub data: String,
}

/// Takes bytes as they come, in whatever pieces.
#[derive(Debug, Default)]
pub struct Parser {
    rest: Vec<u8>,
    event: Event,
    any: bool,
}

impl Parser {
    /// The events that are complete with these bytes.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Event> {
        self.rest.extend_from_slice(bytes);
        let mut events = Vec::new();
        while let Some(end) = self.rest.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\n', '\r']);
            if line.is_empty() {
                let event = std::mem::take(&mut self.event);
                if std::mem::take(&mut self.any) {
                    events.push(event);
                }
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "data" => {
                    if self.any {
                        self.event.data.push('\n');
                    }
                    self.event.data.push_str(value);
                    self.any = true;
                }
                "id" => self.event.id = Some(value.to_owned()),
                _ => {}
            }
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_out_whole_however_the_bytes_are_cut() {
        let text = b": hello\n\nid: 7\r\nevent: x\r\ndata: {\"a\":\r\ndata: 1}\r\n\r\n:keep-alive\n\ndata:two\n\nid: 9\n\ndata: half";
        let expected = vec![
            Event { id: Some("7".to_owned()), data: "{\"a\":\n1}".to_owned() },
            Event { id: None, data: "two".to_owned() },
        ];
        for size in [1, 2, 3, 7, text.len()] {
            let mut parser = Parser::default();
            let events: Vec<Event> = text.chunks(size).flat_map(|piece| parser.push(piece)).collect();
            assert_eq!(events, expected, "in pieces of {size}");
        }
    }
}
