// A small synthesiser, so that a computer without any MIDI system can be heard. Off until it is asked for.
let audio = null;
const voices = new Map();

export function turn(on) {
  if (on) audio = new AudioContext();
  else { audio?.close(); audio = null; voices.clear(); }
}

/** Sound a note, or end it with velocity 0. */
export function play(pitch, velocity) {
  if (!audio) return;
  const at = audio.currentTime, old = voices.get(pitch);
  if (old) { old.gain.gain.setTargetAtTime(0, at, 0.06); old.tone.stop(at + 0.5); voices.delete(pitch); }
  if (velocity <= 0) return;
  const tone = audio.createOscillator(), gain = audio.createGain();
  tone.type = "triangle";
  tone.frequency.value = 440 * 2 ** ((pitch - 69) / 12);
  gain.gain.setValueAtTime(0, at);
  gain.gain.linearRampToValueAtTime(0.25 * (velocity / 127) ** 1.5, at + 0.005);
  gain.gain.setTargetAtTime(0.02, at + 0.01, 0.9);
  tone.connect(gain).connect(audio.destination);
  tone.start(at);
  voices.set(pitch, { tone, gain });
}
