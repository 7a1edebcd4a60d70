// What the host plays instead of speaking: C5, E5, G5, C6, each for 0.4 s, again and again. The demo looks for these four
// notes in the recording; keep `NOTES` as in src/melody.rs.
const NOTES = [523.25, 659.25, 783.99, 1046.5];
const LENGTH = 0.4;

/** Plays into `context`; returns the audio track. */
export function melody(context) {
  const out = context.createMediaStreamDestination();
  const tone = context.createOscillator();
  const volume = context.createGain();
  volume.gain.value = 0;
  tone.connect(volume).connect(out);
  tone.start();

  let next = context.currentTime + 0.1;
  let count = 0;
  const schedule = () => {
    // Four seconds ahead, so that a page that is throttled plays on.
    while (next < context.currentTime + 4) {
      tone.frequency.setValueAtTime(NOTES[count % NOTES.length], next);
      volume.gain.setValueAtTime(0, next);
      volume.gain.linearRampToValueAtTime(0.35, next + 0.02);
      volume.gain.setValueAtTime(0.35, next + LENGTH - 0.06);
      volume.gain.linearRampToValueAtTime(0, next + LENGTH - 0.01);
      next += LENGTH;
      count += 1;
    }
  };
  schedule();
  setInterval(schedule, 1000);
  return out.stream.getAudioTracks()[0];
}
