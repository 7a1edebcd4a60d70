// Runs before any script of the page, in every frame, in a JavaScript world of its own: it shares the page's elements and
// none of its objects, so that a page can neither find nor change it. Mixes the sound of all announced tracks (hook.js) into
// one stream, and records that stream on request. BINDING and ANNOUNCED are replaced by names that are new for each attempt.
// What a page may do is announce tracks of its own: then they are recorded, as if they had been sent.
//
// To the runner, through the binding, one JSON text each:
//   {"kind":"started"}
//   {"kind":"part","offsetMs":0,"data":"<base64>"}   in order; one after the other they are one WebM file
//   {"kind":"stopped"}                               after the last part
//   {"kind":"error","name":"NotSupportedError"}
(() => {
  const tell = globalThis["BINDING"];
  if (typeof tell !== "function") return;
  const send = (message) => tell(JSON.stringify(message));
  // A large meeting sends a few dozen.
  const MOST_TRACKS = 256;

  let context, mix, meter, samples;
  const sources = new Map();
  let heardAt = performance.now();
  let recorder = null;
  let queue = Promise.resolve();

  const prepare = () => {
    if (context) return;
    context = new AudioContext();
    mix = context.createMediaStreamDestination();
    meter = context.createAnalyser();
    meter.fftSize = 2048;
    samples = new Float32Array(meter.fftSize);
    meter.connect(mix);
    // A source that never ends: without one the clock of the recording stands still while nobody speaks.
    const silence = context.createConstantSource();
    silence.offset.value = 0;
    silence.connect(meter);
    silence.start();
    setInterval(listen, 250);
  };

  const listen = () => {
    if (context.state === "suspended") context.resume().catch(() => {});
    meter.getFloatTimeDomainData(samples);
    let sum = 0;
    for (const sample of samples) sum += sample * sample;
    // -60 dBFS: below it is line noise.
    if (Math.sqrt(sum / samples.length) > 0.001) heardAt = performance.now();
  };

  const add = (track) => {
    if (track.kind !== "audio" || sources.has(track) || sources.size >= MOST_TRACKS) return;
    prepare();
    const stream = new MediaStream([track]);
    // Chromium decodes an incoming track for Web Audio only while a media element plays it too.
    const element = new Audio();
    element.srcObject = stream;
    element.muted = true;
    element.play().catch(() => {});
    const node = context.createMediaStreamSource(stream);
    node.connect(meter);
    sources.set(track, { node, element });
    track.addEventListener("ended", () => remove(track));
  };

  const remove = (track) => {
    const source = sources.get(track);
    if (!source) return;
    sources.delete(track);
    source.node.disconnect();
    source.element.srcObject = null;
  };

  const encode = (blob) =>
    new Promise((resolve, reject) => {
      const reader = new FileReader();
      reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
      reader.onerror = () => reject(reader.error);
      reader.readAsDataURL(blob);
    });

  const { get: sourceOf, set: setSource } = Object.getOwnPropertyDescriptor(HTMLMediaElement.prototype, "srcObject");
  const { getAudioTracks } = MediaStream.prototype;

  addEventListener("ANNOUNCED", (event) => {
    event.stopImmediatePropagation();
    const carrier = event.relatedTarget;
    if (!carrier) return;
    // A page in a frame of the same origin hands its tracks to the page at the top.
    if (globalThis.top !== globalThis) {
      try {
        globalThis.top.dispatchEvent(new FocusEvent("ANNOUNCED", { relatedTarget: carrier }));
        return;
      } catch {
        // Of another origin: nobody listens there.
      }
    }
    let tracks;
    try {
      // Not `instanceof`: what comes from a frame has that frame's prototypes. These throw for anything that is not theirs.
      tracks = getAudioTracks.call(sourceOf.call(carrier));
      setSource.call(carrier, null);
    } catch {
      return;
    }
    for (const track of tracks) add(track);
  });

  globalThis.greenroomRecorder = {
    start(partMs) {
      if (recorder) {
        // Whoever starts again has given up on this one.
        recorder.onstart = recorder.ondataavailable = recorder.onerror = recorder.onstop = null;
        if (recorder.state !== "inactive") recorder.stop();
      }
      prepare();
      queue = Promise.resolve();
      const mine = new MediaRecorder(mix.stream, { mimeType: "audio/webm;codecs=opus", audioBitsPerSecond: 64000 });
      recorder = mine;
      let began = performance.now();
      const start = began;
      recorder.onstart = () => send({ kind: "started" });
      recorder.ondataavailable = ({ data }) => {
        const offsetMs = Math.round(began - start);
        began = performance.now();
        if (data.size === 0) return;
        queue = queue.then(async () => {
          const encoded = await encode(data);
          if (recorder === mine) send({ kind: "part", offsetMs, data: encoded });
        });
      };
      recorder.onerror = ({ error }) => send({ kind: "error", name: error?.name ?? "Error" });
      recorder.onstop = () => {
        queue = queue.finally(() => send({ kind: "stopped" }));
      };
      recorder.start(partMs);
    },
    stop() {
      if (recorder && recorder.state !== "inactive") {
        recorder.requestData();
        recorder.stop();
      } else {
        send({ kind: "stopped" });
      }
    },
    pulse: () => ({
      recording: recorder !== null && recorder.state === "recording",
      quietMs: Math.round(performance.now() - heardAt),
    }),
  };
})();
