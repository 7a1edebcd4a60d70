//! Is the host's melody in this recording? Goertzel's algorithm on the decoded sound: how strong each of the melody's four
//! notes is, beside notes that are not in it.

use std::f64::consts::TAU;

/// What the host plays, in Hz: C5, E5, G5, C6. Keep as in `room/page/melody.js`.
pub const NOTES: [f64; 4] = [523.25, 659.25, 783.99, 1046.5];
/// Notes between them, which the host does not play.
const OTHERS: [f64; 4] = [466.16, 587.33, 880.0, 1174.66];
/// How the sound has to be decoded: this many samples a second, one channel.
pub const RATE: u32 = 8_000;
/// A tenth of a second: narrow enough (10 Hz) to tell the notes apart, and a quarter of a note, so that three of four windows lie
/// within one wherever the recording begins.
const WINDOW: usize = RATE as usize / 10;

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Found {
    /// For each note the share of the sound's windows in which it is the one that sounds.
    pub shares: [f64; 4],
}

impl Found {
    /// Whether all four notes are there, each for a fair part of the time.
    #[must_use]
    pub fn melody(&self) -> bool {
        self.shares.iter().all(|share| *share >= 0.08) && self.shares.iter().sum::<f64>() >= 0.5
    }
}

/// Looks for the melody in samples of -1 to 1.
#[must_use]
pub fn find(samples: &[f64]) -> Found {
    let mut hits = [0_u32; 4];
    let mut windows = 0_u32;
    for window in samples.chunks_exact(WINDOW) {
        windows += 1;
        let total: f64 = window.iter().map(|sample| sample * sample).sum();
        let strongest = NOTES
            .iter()
            .chain(&OTHERS)
            .map(|note| energy(window, *note))
            .enumerate()
            .max_by(|a, b| a.1.total_cmp(&b.1));
        // The note carries most of what is heard, and something is heard (-50 dBFS).
        if let Some((index @ 0..4, energy)) = strongest
            && energy > total * 0.3
            && total > WINDOW as f64 * 1e-5
        {
            hits[index] += 1;
        }
    }
    Found { shares: hits.map(|hits| f64::from(hits) / f64::from(windows.max(1))) }
}

/// The energy at one frequency, in the measure of the sum of squares.
fn energy(window: &[f64], frequency: f64) -> f64 {
    let coefficient = 2.0 * (TAU * frequency / f64::from(RATE)).cos();
    let (mut one, mut two) = (0.0, 0.0);
    for sample in window {
        (one, two) = (sample + coefficient * one - two, one);
    }
    (one * one + two * two - coefficient * one * two) * 2.0 / window.len() as f64
}

/// Samples from little-endian 16-bit PCM.
#[must_use]
pub fn samples(pcm: &[u8]) -> Vec<f64> {
    pcm.chunks_exact(2).map(|pair| f64::from(i16::from_le_bytes([pair[0], pair[1]])) / 32768.0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn play(notes: &[f64], volume: f64) -> Vec<f64> {
        (0..RATE * 8)
            .map(|n| {
                let t = f64::from(n) / f64::from(RATE);
                volume * (TAU * notes[(t / 0.4) as usize % notes.len()] * t).sin()
            })
            .collect()
    }

    #[test]
    fn the_melody_is_found() {
        let found = find(&play(&NOTES, 0.3));
        assert!(found.melody(), "{found:?}");
    }

    #[test]
    fn the_melody_is_found_wherever_the_recording_begins() {
        let sound = play(&NOTES, 0.3);
        for begin in (0..RATE as usize * 2 / 5).step_by(80) {
            let found = find(&sound[begin..]);
            assert!(found.melody() && found.shares.iter().sum::<f64>() > 0.7, "from sample {begin}: {found:?}");
        }
    }

    #[test]
    fn one_note_silence_noise_and_another_melody_are_not_it() {
        let noise: Vec<f64> =
            (0_u32..64_000).map(|n| f64::from(n.wrapping_mul(2_654_435_761) >> 16) / 32768.0 - 1.0).collect();
        for (what, sound) in [
            ("one note", play(&NOTES[..1], 0.3)),
            ("silence", vec![0.0; 64_000]),
            ("whisper", play(&NOTES, 0.001)),
            ("noise", noise),
            ("another melody", play(&OTHERS, 0.3)),
            ("nothing", vec![]),
        ] {
            assert!(!find(&sound).melody(), "{what}: {:?}", find(&sound));
        }
    }
}
