//! With the real ffmpeg, and with scripts in its place.

use std::path::PathBuf;
use std::process::Command;

use super::*;
use crate::ffmpeg::Ffmpeg;

const MINUTE: Duration = Duration::from_secs(60);

fn ffmpeg(arguments: &[&str]) -> Vec<u8> {
    let general = ["-nostdin", "-loglevel", "error", "-f", "lavfi", "-i", "sine=duration=2"];
    let output = Command::new("ffmpeg").args(general).args(arguments).arg("-").output().expect("ffmpeg is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn webm() -> Vec<u8> {
    ffmpeg(&["-c:a", "libopus", "-f", "webm", "-live", "1"])
}

/// Joins the way the service does, in a folder of its own. Returns how long the result is.
async fn remux(media: &Media, bytes: &[u8]) -> Result<Duration, Error> {
    let folder = tempfile::tempdir().expect("a folder");
    let ffmpeg = Ffmpeg { media, folder: folder.path(), input_bytes: bytes.len() as u64 };
    ffmpeg.remux(async |pipe| write(pipe, bytes).await.map(drop), "clean.webm").await
}

/// A program in the place of ffmpeg.
fn script(text: &str, timeout: Duration) -> (tempfile::TempDir, Media) {
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("program");
    std::fs::write(&program, format!("#!/bin/sh\n{text}\n")).expect("written");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&program, mode).expect("set");
    (folder, Media { program, timeout })
}

/// Runs a program with nothing to read.
async fn run(media: &Media, arguments: &[&str]) -> Result<Output, Error> {
    let folder = tempfile::tempdir().expect("a folder");
    let arguments = super::arguments(arguments.iter().copied());
    media.run(Job { folder: folder.path(), arguments, inputs: 1, most_output: 1 << 20 }).await
}

fn real() -> Media {
    Media { program: PathBuf::from("ffmpeg"), timeout: MINUTE }
}

#[tokio::test]
async fn sound_is_copied_and_whatever_names_a_file_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let secret = folder.path().join("secret.webm");
    std::fs::write(&secret, webm()).expect("written");
    let secret = secret.display().to_string();
    let media = real();
    let length = remux(&media, &webm()).await.expect("copied");
    assert!(length > Duration::from_millis(1_500), "{length:?}");

    let dash = format!(
        "<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011' type='static' mediaPresentationDuration='PT2S'>\
         <Period><AdaptationSet mimeType='audio/webm'><Representation id='1' bandwidth='64000'>\
         <BaseURL>{secret}</BaseURL></Representation></AdaptationSet></Period></MPD>"
    );
    let hls = format!("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:2,\nfile://{secret}\n#EXT-X-ENDLIST\n");
    for (what, bytes) in [
        ("a DASH manifest", dash),
        ("a list", format!("ffconcat version 1.0\nfile '{secret}'\n")),
        (
            "a list that names itself",
            "ffconcat version 1.0\nfile 'pipe:0'\nfile 'clean.webm'\nfile 'list.txt'\n".to_owned(),
        ),
        ("an HLS playlist", hls),
        ("an SVG", format!("<svg xmlns='http://www.w3.org/2000/svg'><image href='file://{secret}'/></svg>")),
        ("a pattern of pictures", "P6 %d.ppm\n65535 65535\n255\n".to_owned()),
        ("an SDP", "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=audio 9 RTP/AVP 0\n".to_owned()),
        ("subtitles", "WEBVTT\n\n00:00.000 --> 00:01.000\nx\n".to_owned()),
    ] {
        let refused = remux(&media, bytes.as_bytes()).await;
        assert!(matches!(refused, Err(Error::Refused(_))), "{what}: {refused:?}");
    }
}

#[tokio::test]
async fn pictures_of_any_size_are_passed_over() {
    let mut video = ffmpeg(&[
        "-f",
        "lavfi",
        "-i",
        "color=size=64x64:duration=2:rate=5",
        "-map",
        "0:a",
        "-map",
        "1:v",
        "-c:a",
        "libopus",
        "-c:v",
        "libvpx",
        "-f",
        "webm",
        "-live",
        "1",
    ]);
    // PixelWidth and PixelHeight, 64 each: made 65,535 by making their elements longer is another file, so 255 has to do
    // here, and a frame of VP8 that tells its own, larger size.
    let at = video.windows(3).position(|three| three == [0xB0, 0x81, 64]).expect("a width");
    video[at + 2] = 255;
    let key = video.windows(3).position(|three| three == [0x9D, 0x01, 0x2A]).expect("a key frame");
    video[key + 3..key + 7].copy_from_slice(&[0xFF, 0x3F, 0xFF, 0x3F]);
    let length = remux(&real(), &video).await.expect("the sound is copied");
    assert!(length > Duration::from_millis(1_500), "{length:?}");
}

#[tokio::test]
async fn a_run_sees_its_folder_and_no_other_file() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("secret"), "a secret").expect("written");
    let secret = folder.path().join("secret").display().to_string();
    // Behind the ten general options.
    let text = r#"shift 10; for file in "$@"; do cat "$file" >&2 2>/dev/null || echo denied >&2; done
        echo mine > own && cat own >&2; (echo x > "$1") 2>/dev/null || echo denied >&2"#;
    let (_program, media) = script(text, MINUTE);
    let said = run(&media, &[&secret, "/etc/passwd", "/proc/self/environ"]).await.expect("it ran").log;
    assert_eq!(said.matches("denied").count(), 4, "is there no Landlock in this kernel? {said}");
    assert!(!said.contains("a secret") && !said.contains("root:"), "{said}");
    assert!(said.contains("mine"), "it cannot use its own folder: {said}");
}

#[tokio::test]
async fn a_run_has_no_network() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    // Asked for by us, whatever the file: what is left is the lock around the process.
    let address = format!("tcp://127.0.0.1:{port}");
    let refused = run(&real(), &["-protocol_whitelist", "tcp,file", "-f", "matroska", "-i", &address]).await;
    assert!(refused.is_err(), "{refused:?}");
    let called = tokio::time::timeout(Duration::from_millis(200), listener.accept()).await;
    assert!(called.is_err(), "ffmpeg reached the network");
}

#[tokio::test]
async fn a_run_is_limited_and_gets_no_environment() {
    let (_folder, media) = script("for limit in v t f n c; do ulimit -$limit >&2; done; env >&2", MINUTE);
    let said = run(&media, &[]).await.expect("it ran").log;
    let limits: Vec<&str> = said.lines().take(5).collect();
    assert_eq!(limits, [&(MEMORY >> 10).to_string(), "45", "2048", "33", "0"]);
    assert!(!said.contains("PATH=/") && !said.contains("CARGO"), "{said}");
}

#[tokio::test]
async fn resource_exhaustion_differs_from_waiting() {
    let (_one, greedy) = script("while :; do :; done", Duration::from_secs(2));
    let failed = run(&greedy, &[]).await;
    assert!(matches!(failed, Err(Error::Exceeded(_) | Error::TimedOut(_))), "{failed:?}");
    let (_two, large) = script("exec head -c 2000000 /dev/zero > large", MINUTE);
    let failed = run(&large, &[]).await;
    assert!(matches!(failed, Err(Error::Exceeded(_))), "{failed:?}");
    let (_three, slow) = script("exec sleep 600", Duration::from_millis(100));
    assert!(matches!(run(&slow, &[]).await, Err(Error::TimedOut(_))));
    let (_four, killed) = script("kill -9 $$", MINUTE);
    assert!(matches!(run(&killed, &[]).await, Err(Error::Passing(_))));
    let (_five, refusing) = script("exit 1", MINUTE);
    assert!(matches!(run(&refusing, &[]).await, Err(Error::Refused(_))));
    let missing = Media { program: "/nowhere/ffmpeg".into(), timeout: MINUTE };
    assert!(matches!(run(&missing, &[]).await, Err(Error::Missing(_))));
}

#[tokio::test]
async fn a_full_disk_is_the_machines_fault() {
    // What the real ffmpeg says of a device that is always full.
    let general =
        ["-nostdin", "-hide_banner", "-y", "-f", "lavfi", "-i", "sine=duration=2", "-c:a", "libopus", "-f", "webm"];
    let output = Command::new("ffmpeg").args(general).arg("/dev/full").output().expect("ffmpeg is installed");
    let log = String::from_utf8_lossy(&output.stderr);
    let code = output.status.code().expect("it ended by itself");
    let fault = verdict::judge(verdict::Exit::Code(code), &log);
    assert!(
        matches!(&fault, Some(verdict::Fault::Machine(what)) if what.contains("No space left")),
        "{code}: {fault:?}: {log}"
    );
}

#[tokio::test]
async fn a_flood_in_the_log_is_not_kept() {
    let (_folder, media) = script("yes flood | head -c 3000000 >&2; echo the end >&2; exit 1", MINUTE);
    let Err(Error::Refused(why)) = run(&media, &[]).await else { panic!("it failed") };
    assert_eq!(why, "the end");
}
