import { melody } from "/melody.js";

const room = document.querySelector("#room");
const $ = (selector) => document.querySelector(selector);
const query = new URLSearchParams(location.search);
const host = query.get("role") === "host";

const peers = new Map(); // id -> { connection, tile, audio }
let line, context, microphone, me, joinedAt;

const say = (message) => line?.readyState === WebSocket.OPEN && line.send(JSON.stringify(message));

function show(state, words) {
  room.dataset.greenroomState = state;
  $("#status").textContent = words ?? "";
}

function count() {
  const people = me ? peers.size + 1 : 0;
  room.dataset.greenroomParticipants = people;
  $("#count").textContent = people === 1 ? "1 person" : `${people} people`;
}

// The lobby

if (host) {
  $("#lobby-title").textContent = "Start the meeting";
  $("#lobby-lead").textContent = "You decide who comes in, and play the melody.";
  $("#password-field").hidden = true;
  $('[data-greenroom="join"]').textContent = "Start";
}

$("#lobby").addEventListener("submit", async (event) => {
  event.preventDefault();
  const name = $("#name").value;
  const password = $("#password").value;
  $('[data-greenroom="join"]').disabled = true;
  $("#waiting-name").textContent = name;
  context = new AudioContext();
  context.resume();
  microphone = host ? melody(context) : await ask();
  connect({ type: "hello", name, password, key: query.get("key") ?? "" });
});

/** The microphone's track, or none: a guest without one may still listen. */
async function ask() {
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
    return stream.getAudioTracks()[0];
  } catch {
    return null;
  }
}

function connect(hello) {
  line = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${location.pathname}/line`);
  line.addEventListener("open", () => say(hello));
  line.addEventListener("message", ({ data }) => heard(JSON.parse(data), hello.name));
  line.addEventListener("close", () => {
    if (["waiting", "joined", "lobby"].includes(room.dataset.greenroomState)) over("The connection was lost.");
  });
}

// The line

async function heard(told, name) {
  switch (told.type) {
    case "waiting":
      return show("waiting", "Waiting to be let in");
    case "joined":
      me = told.id;
      joinedAt = Date.now();
      tile({ id: me, name, host: told.host }, true);
      if (microphone) meter(new MediaStream([microphone]), me);
      $("#mute").hidden = !microphone;
      $("#end").hidden = !told.host;
      for (const person of told.people) await call(person);
      count();
      return show("joined", "You are in the meeting");
    case "came":
      add(told.person);
      count();
      $("#status").textContent = `${told.person.name} joined`;
      return;
    case "left":
      remove(told.id);
      return count();
    case "signal":
      return signal(told.from, told.data);
    case "knock":
      return knock(told.person);
    case "unknock":
      return document.querySelector(`#knock-${told.id}`)?.remove();
    case "denied":
      if (told.reason === "password") {
        room.dataset.greenroomError = "password";
        $("#denied-reason").textContent = "The password is not right.";
      }
      hangUp();
      return show("denied", "You were not let in");
    case "ended":
      return over();
  }
}

function knock(person) {
  const card = document.createElement("div");
  card.className = "knock";
  card.id = `knock-${person.id}`;
  const words = document.createElement("p");
  const name = document.createElement("strong");
  name.textContent = person.name;
  words.append(name, " would like to join");
  const choices = document.createElement("div");
  for (const [type, label] of [["admit", "Admit"], ["deny", "Deny"]]) {
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.greenroom = type;
    button.textContent = label;
    button.className = type === "admit" ? "primary" : "";
    button.setAttribute("aria-label", `${label} ${person.name}`);
    button.addEventListener("click", () => say({ type, id: person.id }));
    choices.append(button);
  }
  card.append(words, choices);
  $("#knocks").append(card);
}

// People

function tile(person, mine = false) {
  const item = document.createElement("li");
  item.className = "tile";
  item.id = `tile-${person.id}`;
  item.style.setProperty("--hue", person.host ? 145 : (200 + person.id * 67) % 360);
  const face = document.createElement("div");
  face.className = "face";
  face.setAttribute("aria-hidden", "true");
  face.textContent = person.name.split(/\s+/).slice(0, 2).map((word) => [...word][0] ?? "").join("").toUpperCase();
  const plate = document.createElement("p");
  plate.className = "plate";
  plate.textContent = mine ? `${person.name} (you)` : person.name;
  if (person.host) {
    const badge = document.createElement("em");
    badge.textContent = "Host";
    plate.append(badge);
  }
  item.append(face, plate);
  $("#tiles").append(item);
}

/** Lets the face of `id` glow with its voice. */
function meter(stream, id) {
  const analyser = context.createAnalyser();
  analyser.fftSize = 512;
  context.createMediaStreamSource(stream).connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  const timer = setInterval(() => {
    const face = document.querySelector(`#tile-${id} .face`);
    if (!face) return clearInterval(timer);
    analyser.getFloatTimeDomainData(samples);
    const loud = Math.sqrt(samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length);
    face.style.setProperty("--loud", Math.min(1, loud * 3).toFixed(2));
  }, 100);
}

function add(person) {
  const connection = new RTCPeerConnection();
  const audio = new Audio();
  audio.autoplay = true;
  const peer = { connection, audio, early: [] };
  peers.set(person.id, peer);
  tile(person);
  connection.addEventListener("icecandidate", ({ candidate }) => {
    if (candidate) say({ type: "signal", to: person.id, data: { candidate } });
  });
  connection.addEventListener("track", ({ track }) => {
    const stream = new MediaStream([track]);
    audio.srcObject = stream;
    meter(stream, person.id);
  });
  connection.addEventListener("connectionstatechange", () => {
    const item = document.querySelector(`#tile-${person.id}`);
    if (item) item.dataset.connection = connection.connectionState;
  });
  if (microphone) connection.addTrack(microphone, new MediaStream([microphone]));
  else connection.addTransceiver("audio", { direction: "recvonly" });
  return peer;
}

async function call(person) {
  const { connection } = add(person);
  await connection.setLocalDescription();
  say({ type: "signal", to: person.id, data: { description: connection.localDescription } });
}

async function signal(from, { description, candidate }) {
  const peer = peers.get(from);
  if (!peer) return;
  const { connection } = peer;
  if (candidate) {
    if (connection.remoteDescription) await connection.addIceCandidate(candidate);
    else peer.early.push(candidate);
    return;
  }
  await connection.setRemoteDescription(description);
  if (description.type === "offer") {
    await connection.setLocalDescription();
    say({ type: "signal", to: from, data: { description: connection.localDescription } });
  }
  for (const early of peer.early.splice(0)) await connection.addIceCandidate(early);
}

function remove(id) {
  const peer = peers.get(id);
  if (!peer) return;
  peers.delete(id);
  peer.connection.close();
  peer.audio.srcObject = null;
  document.querySelector(`#tile-${id}`)?.remove();
}

// The end

function hangUp() {
  for (const id of [...peers.keys()]) remove(id);
  microphone?.stop();
  me = undefined;
  count();
  line?.close();
}

function over(words) {
  if (words) $("#ended-reason").textContent = words;
  show("ended", "The meeting is over");
  hangUp();
}

for (const button of document.querySelectorAll('[data-greenroom="leave"]')) {
  button.addEventListener("click", () => {
    say({ type: "leave" });
    $("#ended-title").textContent = "You left the meeting";
    over("You can close this page.");
  });
}

$("#end").addEventListener("click", () => say({ type: "end" }));

$("#mute").addEventListener("click", () => {
  microphone.enabled = !microphone.enabled;
  $("#mute").setAttribute("aria-pressed", String(!microphone.enabled));
  $("#mute").textContent = microphone.enabled ? "Mute" : "Unmute";
});

setInterval(() => {
  if (!joinedAt) return;
  const seconds = Math.floor((Date.now() - joinedAt) / 1000);
  $("#clock").textContent = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}, 500);
