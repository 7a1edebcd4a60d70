//! Sound made by ffmpeg.

use std::process::Command;

/// A tone of so many seconds, as a browser records it: Opus in live WebM, a cluster a second.
pub fn webm(seconds: u32) -> Vec<u8> {
    encode(seconds, &["-c:a", "libopus", "-f", "webm", "-live", "1", "-cluster_time_limit", "1000"])
}

/// As [`webm`], in one stream with a hole: sound, nothing at all, and sound again with its time.
pub fn with_a_hole(before: u32, hole: u32, after: u32) -> Vec<u8> {
    let filter = format!("asetpts=PTS+gte(T\\,{before})*{hole}/TB");
    let how = ["-af", &filter, "-c:a", "libopus", "-f", "webm", "-live", "1", "-cluster_time_limit", "1000"];
    encode(before + after, &how)
}

/// The same in another encoding.
pub fn vorbis(seconds: u32) -> Vec<u8> {
    encode(seconds, &["-c:a", "vorbis", "-strict", "-2", "-ac", "2", "-f", "webm"])
}

fn encode(seconds: u32, how: &[&str]) -> Vec<u8> {
    let tone = format!("sine=frequency=440:duration={seconds}");
    let output = Command::new("ffmpeg")
        .args(["-nostdin", "-loglevel", "error", "-f", "lavfi", "-i", &tone])
        .args(how)
        .arg("-")
        .output()
        .expect("ffmpeg is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Cuts a stream into so many pieces, between clusters, as a runner does.
pub fn cut(stream: &[u8], pieces: usize) -> Vec<Vec<u8>> {
    let clusters: Vec<usize> = (1..stream.len()).filter(|&at| stream[at..].starts_with(&CLUSTER)).collect();
    assert!(clusters.len() >= pieces, "{} clusters are not enough for {pieces} pieces", clusters.len());
    let mut bounds = vec![0];
    bounds.extend((1..pieces).map(|piece| clusters[piece * clusters.len() / pieces]));
    bounds.push(stream.len());
    bounds.windows(2).map(|bounds| stream[bounds[0]..bounds[1]].to_vec()).collect()
}

const CLUSTER: [u8; 4] = [0x1F, 0x43, 0xB6, 0x75];

/// A part that begins as it has to, and goes on with something else.
pub fn cluster_of(content: &[u8]) -> Vec<u8> {
    [&CLUSTER[..], &[0x01, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF], content].concat()
}

/// A stream that begins as it has to, and goes on with something else.
pub fn header_and(content: &[u8]) -> Vec<u8> {
    let whole = webm(1);
    let segment = whole.windows(4).position(|four| four == [0x18, 0x53, 0x80, 0x67]).expect("a segment");
    [&whole[..segment + 12], content].concat()
}
