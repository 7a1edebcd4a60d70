// Runs in the page's own world before any script of the page, in every frame, because only there connections can be seen.
// It announces each incoming WebRTC track to the recorder, which lives in a world of its own (capture.js): an audio element
// that carries the track crosses over as the related target of an event. It keeps the functions it needs; what a page
// changes afterwards does not reach it, and nothing of it can be found from the page's global object.
// ANNOUNCED is replaced by the name of the event.
(() => {
  if (typeof RTCPeerConnection !== "function") return;
  const { apply, construct } = Reflect;
  const { addEventListener, dispatchEvent } = EventTarget.prototype;
  const { addTrack } = MediaStream.prototype;
  const { get: trackOf } = Object.getOwnPropertyDescriptor(RTCTrackEvent.prototype, "track");
  const { set: setSource } = Object.getOwnPropertyDescriptor(HTMLMediaElement.prototype, "srcObject");
  const [Carrier, Stream, Announcement, page] = [Audio, MediaStream, FocusEvent, globalThis];

  const announce = (event) => {
    const stream = new Stream();
    apply(addTrack, stream, [apply(trackOf, event, [])]);
    const relatedTarget = new Carrier();
    apply(setSource, relatedTarget, [stream]);
    apply(dispatchEvent, page, [new Announcement("ANNOUNCED", { __proto__: null, relatedTarget })]);
  };

  const Connection = new Proxy(RTCPeerConnection, {
    __proto__: null,
    construct(target, parameters, newTarget) {
      const connection = construct(target, parameters, newTarget);
      apply(addEventListener, connection, ["track", announce]);
      return connection;
    },
  });
  globalThis.RTCPeerConnection = Connection;
  if ("webkitRTCPeerConnection" in globalThis) globalThis.webkitRTCPeerConnection = Connection;
})();
