//! Recordings with a real Postgres, nats-server and ffmpeg, through the service's own door.

#![allow(clippy::disallowed_methods, reason = "a test ends with what it spawns")]

#[path = "recordings/gaps.rs"]
mod gaps;
#[path = "recordings/house.rs"]
mod house;
#[path = "../../testkit/src/servers.rs"]
#[allow(dead_code)]
mod servers;
#[path = "recordings/sound.rs"]
mod sound;

use greenroom_contracts::proto::internal::v1::{
    ReadScreenshotRequest, RecordingServiceGetRequest, RecordingServiceReadRequest,
};
use greenroom_contracts::proto::v1::PutScreenshotRequest;
use greenroom_domain::TenantId;
use greenroom_domain::bot::BotState;
use house::{House, Said};
use tonic::Code;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_become_one_recording() {
    let house = House::new().await;
    let bot = house.bot();
    let whole = sound::webm(12);
    let parts = sound::cut(&whole, 4);
    for (index, part) in parts.iter().enumerate() {
        house.put(&bot, 1, index, part).await.expect("stored");
    }
    assert_eq!(house.get(&bot).await.state().word(), "recording");
    // Sent again: the same, and by mistake another content. Nothing is stored, the answer is the same.
    house.put(&bot, 1, 2, &parts[2]).await.expect("answered the same");
    let other = sound::cluster_of(b"something else");
    house.put(&bot, 1, 2, &other).await.expect("answered the same");
    assert_eq!(house.get(&bot).await.parts, 4);

    house.over(&bot, BotState::Done, 1).await;
    house.gone(&bot, 1).await;
    let Said::Ready { sequence, ready } = house.said(&bot, 1).await else { panic!("it is ready") };
    assert_eq!(sequence, 1);
    assert!((11_500..12_500).contains(&ready.duration_ms), "{ready:?}");
    assert!(ready.mean_volume_db.is_some_and(|volume| volume > -40.0), "{ready:?}");

    let recording = house.get(&bot).await;
    assert_eq!((recording.state().word(), recording.duration_ms, recording.parts), ("ready", ready.duration_ms, 4));
    assert_eq!((recording.media_type.as_str(), recording.detail.as_str()), ("audio/webm", ""));
    assert_eq!(recording.location, format!("{}/{}/recording.webm", bot.tenant, bot.id), "no path of the server");
    let on_disk = std::fs::read(house.directory.path().join(&recording.location)).expect("where it says");
    assert_eq!(on_disk.len() as u64, ready.size_bytes);
    assert_eq!(house.read(&bot).await.expect("readable"), on_disk);

    // Another tenant sees nothing of it.
    let mut client = house.client();
    let theirs = RecordingServiceGetRequest { tenant_id: TenantId::generate().to_string(), bot_id: bot.id.to_string() };
    let content = RecordingServiceReadRequest { tenant_id: theirs.tenant_id.clone(), bot_id: theirs.bot_id.clone() };
    assert_eq!(client.get(theirs).await.expect("answered").into_inner().state().word(), "none");
    assert_eq!(client.read(content).await.expect_err("nothing").code(), Code::NotFound);

    // Said again, late: nothing changes.
    house.over(&bot, BotState::Done, 1).await;
    house.gone(&bot, 1).await;
    house.settled_events().await;
    assert_eq!(house.count(&bot), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_parts_are_reported() {
    let house = House::new().await;
    let parts = sound::cut(&sound::webm(12), 4);
    // The runner could not hand in the rest, as on a full disk.
    let cut = house.bot();
    house.put(&cut, 1, 0, &parts[0]).await.expect("stored");
    house.recorded(&cut, 60);
    let whole = house.bot();
    for (index, part) in parts.iter().enumerate() {
        house.put(&whole, 1, index, part).await.expect("stored");
    }
    house.recorded(&whole, 13);
    for bot in [&cut, &whole] {
        house.over(bot, BotState::Done, 1).await;
        house.gone(bot, 1).await;
        assert!(matches!(house.said(bot, 1).await, Said::Ready { .. }));
    }
    let detail = house.get(&cut).await.detail;
    assert!(detail.starts_with("about 5") && detail.ends_with("s of 60 s that were recorded are missing"), "{detail}");
    assert_eq!(house.get(&whole).await.detail, "");

    // They come late after all.
    for (index, part) in parts.iter().enumerate().skip(1) {
        house.put(&cut, 1, index, part).await.expect("stored");
    }
    house.recorded(&cut, 13);
    house.said(&cut, 2).await;
    assert_eq!(house.get(&cut).await.detail, "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recording_of_which_nothing_arrived_has_failed() {
    let house = House::hurried().await;
    let (lost, never) = (house.bot(), house.bot());
    house.recorded(&lost, 42);
    // Nobody says "none" before the scheduler has answered.
    *house.scheduler.away.lock().expect("no panic") = true;
    for bot in [&lost, &never] {
        house.over(bot, BotState::Done, 1).await;
        house.gone(bot, 1).await;
    }
    house.until("it is due", async |house| house.get(&lost).await.state().word() == "joining").await;
    *house.scheduler.away.lock().expect("no panic") = false;
    let Said::Failed { sequence, failed } = house.said(&lost, 1).await else { panic!("it failed") };
    let words = "recording was reported for about 42 s, and no part of it arrived";
    assert_eq!((sequence, failed.detail.as_str()), (1, words));
    let recording = house.get(&lost).await;
    assert_eq!((recording.state().word(), recording.detail.as_str()), ("failed", words));
    house.until("the other is settled", async |house| house.get(&never).await.state().word() == "none").await;
    assert_eq!((house.get(&never).await.detail.as_str(), house.count(&never)), ("", 0));

    // A part comes late after all.
    house.put(&lost, 1, 0, &sound::webm(2)).await.expect("stored");
    assert!(matches!(house.said(&lost, 2).await, Said::Ready { sequence: 2, .. }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_that_takes_nothing_is_named_until_it_does() {
    let house = House::hurried().await;
    let bot = house.bot();
    let whole = sound::webm(2);
    house.put(&bot, 1, 0, &whole).await.expect("stored");
    assert!(house.conditions().await["recordings.objects"]);
    // In a file nothing can be stored, not even by root; so it is on a disk that is full.
    let (folder, aside) = (house.directory.path(), house.directory.path().with_extension("aside"));
    std::fs::rename(folder, &aside).expect("moved");
    std::fs::write(folder, "").expect("written");
    assert_eq!(house.put(&bot, 1, 1, &whole).await.expect_err("refused").code(), Code::Unavailable);
    assert!(!house.conditions().await["recordings.objects"]);
    std::fs::remove_file(folder).expect("removed");
    std::fs::rename(&aside, folder).expect("moved back");
    house.until("it has healed", async |house| house.conditions().await["recordings.objects"]).await;
    house.put(&bot, 1, 1, &whole).await.expect("stored");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_attempt_loses_its_truncated_tail_and_the_next_one_is_joined_to_it() {
    let house = House::new().await;
    let bot = house.bot();
    let parts = sound::cut(&sound::webm(12), 6);
    for (index, part) in parts[..3].iter().enumerate() {
        house.put(&bot, 1, index, part).await.expect("stored");
    }
    // Killed in the middle of its fourth part: of 12 s some 7 are left.
    house.put(&bot, 1, 3, &parts[3][..parts[3].len() / 2]).await.expect("stored");
    house.gone(&bot, 1).await;
    for (index, part) in sound::cut(&sound::webm(4), 2).iter().enumerate() {
        house.put(&bot, 2, 10 + index, part).await.expect("stored");
    }
    house.over(&bot, BotState::Fatal, 2).await;
    house.gone(&bot, 2).await;
    let Said::Ready { ready, .. } = house.said(&bot, 1).await else { panic!("it is ready") };
    assert!((10_000..12_000).contains(&ready.duration_ms), "7 and 4 seconds: {ready:?}");
    assert!(ready.mean_volume_db.is_some_and(|volume| volume > -40.0), "{ready:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attempts_with_other_encodings_are_joined_by_encoding_again() {
    let house = House::new().await;
    let bot = house.bot();
    house.put(&bot, 1, 0, &sound::webm(3)).await.expect("stored");
    house.put(&bot, 2, 0, &sound::vorbis(5)).await.expect("stored");
    house.over(&bot, BotState::Done, 2).await;
    house.gone(&bot, 2).await;
    let Said::Ready { ready, .. } = house.said(&bot, 1).await else { panic!("it is ready") };
    assert!((7_500..8_700).contains(&ready.duration_ms), "{ready:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_parts_are_awaited_without_runner_gone() {
    let house = House::new().await;
    let (silent, empty) = (house.bot(), house.bot());
    let parts = sound::cut(&sound::webm(4), 2);
    house.put(&silent, 1, 0, &parts[0]).await.expect("stored");
    house.over(&silent, BotState::Cancelled, 1).await;
    house.over(&empty, BotState::Cancelled, 1).await;
    house.until("it is joining", async |house| house.get(&silent).await.state().word() == "joining").await;
    house.put(&silent, 1, 1, &parts[1]).await.expect("stored");
    let Said::Ready { ready, sequence } = house.said(&silent, 1).await else { panic!("it is ready") };
    assert_eq!(sequence, 1);
    assert!((3_500..4_500).contains(&ready.duration_ms), "both parts: {ready:?}");

    house.until("there is none", async |house| house.get(&empty).await.state().word() == "none").await;
    assert_eq!(house.count(&empty), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bot_whose_end_was_never_heard_of_is_asked_about() {
    let house = House::hurried().await;
    let (over, live) = (house.bot(), house.bot());
    house.scheduler.over.lock().expect("no panic").insert(over.id.to_string(), BotState::Done);
    house.put(&live, 1, 0, &sound::webm(2)).await.expect("stored");
    house.put(&over, 1, 0, &sound::webm(2)).await.expect("stored");
    assert!(matches!(house.said(&over, 1).await, Said::Ready { sequence: 1, .. }));
    assert_eq!(house.get(&live).await.state().word(), "recording");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_after_joining_opens_it_again() {
    let house = House::new().await;
    let bot = house.bot();
    let parts = sound::cut(&sound::webm(10), 5);
    for (index, part) in parts[..4].iter().enumerate() {
        house.put(&bot, 1, index, part).await.expect("stored");
    }
    house.over(&bot, BotState::Done, 1).await;
    house.gone(&bot, 1).await;
    let Said::Ready { ready: first, .. } = house.said(&bot, 1).await else { panic!("it is ready") };
    house.put(&bot, 1, 4, &parts[4]).await.expect("stored");
    let Said::Ready { sequence, ready } = house.said(&bot, 2).await else { panic!("it is ready again") };
    assert_eq!(sequence, 2);
    assert!(ready.duration_ms > first.duration_ms + 1_000, "{first:?} {ready:?}");
    house
        .until("it is ready again", async |house| {
            house.get(&bot).await.parts == 5 && house.get(&bot).await.state().word() == "ready"
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_join_keeps_the_parts() {
    let house = House::new().await;
    let bot = house.bot();
    let content = sound::header_and(b"this is no sound");
    house.put(&bot, 1, 0, &content).await.expect("stored");
    house.over(&bot, BotState::Done, 1).await;
    house.gone(&bot, 1).await;
    let Said::Failed { sequence, failed } = house.said(&bot, 1).await else { panic!("it fails") };
    assert_eq!(sequence, 1);
    assert!(failed.detail.contains("attempt 1"), "{failed:?}");
    assert!(!failed.detail.contains('/'), "no path of this machine's: {failed:?}");
    let recording = house.get(&bot).await;
    assert_eq!((recording.state().word(), recording.parts), ("failed", 1));
    assert_eq!(house.read(&bot).await.expect_err("nothing").code(), Code::NotFound);
    let kept = house.directory.path().join(format!("{}/{}/parts/1/000000.webm", bot.tenant, bot.id));
    assert_eq!(std::fs::read(kept).expect("kept"), content);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_ffmpeg_is_waited_for() {
    let house = House::with(&[("FFMPEG", "/nowhere/ffmpeg")], 1).await;
    let bot = house.bot();
    house.put(&bot, 1, 0, &sound::webm(2)).await.expect("stored");
    house.over(&bot, BotState::Done, 1).await;
    house.gone(&bot, 1).await;
    house.until("it says why", async |house| house.get(&bot).await.detail.contains("FFMPEG")).await;
    assert_eq!(house.get(&bot).await.state().word(), "joining");
    // A replica that has one does it, though it was never told.
    house.replica(&[]).await;
    assert!(matches!(house.said(&bot, 1).await, Said::Ready { sequence: 1, .. }));
    assert_eq!(house.get(&bot).await.detail, "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_join_each_recording_once() {
    let house = House::with(&[], 2).await;
    let sound = sound::webm(2);
    let bots: Vec<_> = (0..12).map(|_| house.bot()).collect();
    for bot in &bots {
        house.put(bot, 1, 0, &sound).await.expect("stored");
        house.over(bot, BotState::Done, 1).await;
        house.gone(bot, 1).await;
    }
    for bot in &bots {
        assert!(matches!(house.said(bot, 1).await, Said::Ready { sequence: 1, .. }));
    }
    house.settled_events().await;
    for bot in &bots {
        assert_eq!(house.count(bot), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_of_one_index_sent_at_once_are_stored_once() {
    let house = House::new().await;
    let bot = house.bot();
    let sound = sound::webm(2);
    let puts = (0..16).map(|_| house.put(&bot, 1, 0, &sound));
    for put in futures::future::join_all(puts).await {
        put.expect("answered the same");
    }
    assert_eq!(house.get(&bot).await.parts, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn screenshots_are_kept_once_and_served() {
    let house = House::new().await;
    let bot = house.bot();
    for (label, content) in [("in_call", "one"), ("in_call", "one"), ("in_call", "two"), ("done", "one")] {
        house.put_screenshot(&bot, label, content.as_bytes()).await.expect("stored");
    }
    let names = house.get(&bot).await.screenshots;
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(names[0].starts_with("1-in_call-") && names[2].starts_with("1-done-"), "{names:?}");
    let ask = |name: &str| ReadScreenshotRequest {
        tenant_id: bot.tenant.to_string(),
        bot_id: bot.id.to_string(),
        name: name.to_owned(),
    };
    let stream = house.client().read_screenshot(ask(&names[1])).await.expect("there").into_inner();
    assert_eq!(house::collect(stream).await.expect("read"), b"two");
    assert_eq!(
        house.client().read_screenshot(ask("../recording.webm")).await.expect_err("none").code(),
        Code::NotFound
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_uploads_are_refused_by_name() {
    let house = House::new().await;
    let bot = house.bot();
    let good = house.part(&bot, 1, 0, &sound::cluster_of(b"x"));
    let mut session = good.clone();
    session.runner.as_mut().expect("set").kind = "session".to_owned();
    let mut video = good.clone();
    video.media_type = "video/mp4".to_owned();
    let mut empty = good.clone();
    empty.content.clear();
    let mut large = good.clone();
    large.content = vec![0; (16 << 20) + 1];
    let mut list = good.clone();
    list.content = b"ffconcat version 1.0\nfile 'attempt-1.webm'\n".to_vec();
    let refused =
        [(session, "runner.kind"), (video, "media_type"), (empty, "content"), (large, "content"), (list, "content")];
    for (request, field) in refused {
        let refused = house.put_request(&bot, request).await.expect_err(field);
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
        assert!(refused.message().starts_with(field), "{refused:?}");
    }
    let refused = house.client().put_part(good).await.expect_err("no tenant");
    assert!(refused.message().starts_with("greenroom-tenant"), "{refused:?}");
    let request = PutScreenshotRequest { label: "../x".to_owned(), ..house.screenshot(&bot, "x", b"x") };
    let refused =
        house.client().put_screenshot(house::with_tenant(bot.tenant, request)).await.expect_err("a bad label");
    assert!(refused.message().starts_with("label"), "{refused:?}");
    let mut most = sound::cluster_of(&[]);
    most.resize(16 << 20, 7);
    house.put(&bot, 1, 0, &most).await.expect("16 MiB are allowed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_that_names_another_tenants_recording_reads_nothing_of_it() {
    let house = House::new().await;
    let (theirs, ours) = (house.bot(), house.bot());
    house.put(&theirs, 1, 0, &sound::webm(9)).await.expect("stored");
    let secret = house.directory.path().join(format!("{}/{}/parts/1/000000.webm", theirs.tenant, theirs.id));
    assert!(secret.is_file(), "{secret:?}");
    let manifest = format!(
        "<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011' type='static' mediaPresentationDuration='PT9S'>\
         <Period><AdaptationSet mimeType='audio/webm'><Representation id='1' bandwidth='64000'>\
         <BaseURL>{}</BaseURL></Representation></AdaptationSet></Period></MPD>",
        secret.display()
    );
    let put = house.put(&ours, 1, 0, manifest.as_bytes()).await;
    if put.is_ok() {
        // So that whoever sees this fail sees what is at stake.
        house.over(&ours, BotState::Done, 1).await;
        house.gone(&ours, 1).await;
        panic!("a manifest was taken for a part, and became: {:?}", house.said(&ours, 1).await);
    }
    assert_eq!(put.expect_err("refused").code(), Code::InvalidArgument);

    // One that an earlier version has taken: it lies there, and is joined now.
    house.put(&ours, 1, 0, &sound::webm(1)).await.expect("stored");
    let lies_there = house.directory.path().join(format!("{}/{}/parts/1/000000.webm", ours.tenant, ours.id));
    std::fs::write(&lies_there, manifest).expect("written");
    house.over(&ours, BotState::Done, 1).await;
    house.gone(&ours, 1).await;
    let Said::Failed { failed, .. } = house.said(&ours, 1).await else { panic!("it must not be joined") };
    assert!(failed.detail.contains("not WebM"), "{failed:?}");

    // Nobody else on this machine reads any of it.
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&secret).expect("there"));
    assert_eq!(mode & 0o777, 0o600, "{mode:o}");
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(house.directory.path()).expect("there"));
    assert_eq!(mode & 0o777, 0o700, "{mode:o}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_waited_for_however_long_it_takes() {
    let folder = tempfile::tempdir().expect("a folder");
    let (full, program) = (folder.path().join("full"), folder.path().join("ffmpeg"));
    let text = format!(
        "#!/bin/sh\n[ -e {} ] || exec /usr/bin/env PATH={} ffmpeg \"$@\"\ncat > /dev/null\n\
         echo 'av_interleaved_write_frame(): No space left on device' >&2\nexit 1\n",
        full.display(),
        std::env::var("PATH").expect("a path")
    );
    std::fs::write(&program, text).expect("written");
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("set");
    std::fs::write(&full, "").expect("written");

    let house = House::with(&[("FFMPEG", program.to_str().expect("UTF-8"))], 1).await;
    let bot = house.bot();
    house.put(&bot, 1, 0, &sound::webm(2)).await.expect("stored");
    house.over(&bot, BotState::Done, 1).await;
    house.gone(&bot, 1).await;
    // More often than parts that cannot be read are tried.
    house.until("it was tried four times", async |house| house.waits(&bot).await >= 4 || house.count(&bot) > 0).await;
    assert_eq!(house.count(&bot), 0, "it was given up: {:?}", house.get(&bot).await.detail);
    let recording = house.get(&bot).await;
    assert_eq!(recording.state().word(), "joining");
    assert!(recording.detail.contains("No space left on device"), "{recording:?}");
    std::fs::remove_file(&full).expect("removed");
    assert!(matches!(house.said(&bot, 1).await, Said::Ready { sequence: 1, .. }));
    assert_eq!(house.get(&bot).await.detail, "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_has_a_recording_joined_again() {
    let house = House::new().await;
    let bot = house.bot();
    assert_eq!(house.join(&bot).await.expect_err("unknown").code(), Code::NotFound);
    house.put(&bot, 1, 0, &sound::header_and(b"this is no sound")).await.expect("stored");
    assert_eq!(house.join(&bot).await.expect_err("it lives").code(), Code::FailedPrecondition);
    house.over(&bot, BotState::Done, 1).await;
    house.gone(&bot, 1).await;
    assert!(matches!(house.said(&bot, 1).await, Said::Failed { sequence: 1, .. }));

    // Somebody has brought the part back from a backup.
    let part = house.directory.path().join(format!("{}/{}/parts/1/000000.webm", bot.tenant, bot.id));
    std::fs::write(part, sound::webm(2)).expect("written");
    assert_eq!(house.join(&bot).await.expect("joined again").state().word(), "joining");
    assert!(matches!(house.said(&bot, 2).await, Said::Ready { sequence: 2, .. }));
    house.until("it is ready", async |house| house.get(&bot).await.state().word() == "ready").await;
    assert_eq!(house.read(&bot).await.expect("readable").get(..4), Some(&[0x1A, 0x45, 0xDF, 0xA3][..]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bot_uploads_so_much_and_no_more() {
    let settings = [("RECORDING_PARTS_PER_BOT", "3"), ("RECORDING_MIB_PER_BOT", "1"), ("SCREENSHOTS_PER_BOT", "2")];
    let house = House::with(&settings, 1).await;
    let (many, large) = (house.bot(), house.bot());
    let content = sound::cluster_of(b"x");
    for index in 0..3 {
        house.put(&many, 1, index, &content).await.expect("stored");
    }
    let refused = house.put(&many, 1, 3, &content).await.expect_err("a fourth");
    assert_eq!(refused.code(), Code::OutOfRange, "the runner goes on without it");
    assert!(refused.message().contains("RECORDING_PARTS_PER_BOT"), "{refused:?}");
    house.put(&many, 1, 2, &content).await.expect("one that is there is answered as before");
    assert_eq!(house.get(&many).await.parts, 3);

    let mut half = sound::cluster_of(&[]);
    half.resize(600 << 10, 7);
    house.put(&large, 1, 0, &half).await.expect("stored");
    let refused = house.put(&large, 1, 1, &half).await.expect_err("too much");
    assert!(refused.code() == Code::OutOfRange && refused.message().contains("RECORDING_MIB_PER_BOT"), "{refused:?}");
    let kept = house.directory.path().join(format!("{}/{}/parts/1/000001.webm", large.tenant, large.id));
    assert!(!kept.exists(), "it was written all the same");

    for label in ["one", "two"] {
        house.put_screenshot(&many, label, b"x").await.expect("stored");
    }
    let refused = house.put_screenshot(&many, "three", b"x").await.expect_err("a third");
    assert!(refused.code() == Code::OutOfRange && refused.message().contains("SCREENSHOTS_PER_BOT"), "{refused:?}");
    house.put_screenshot(&many, "two", b"x").await.expect("one that is there is answered as before");
    assert_eq!(house.get(&many).await.screenshots.len(), 2);
}
