/** A connection that never connects, and a stream, for tests in which only the room matters. */

export class SilentConnection extends EventTarget {
  signalingState = 'stable';
  connectionState = 'new';
  transceivers = [];
  createDataChannel = () => Object.assign(new EventTarget(), { label: 'signalbox', readyState: 'connecting' });
  getTransceivers = () => this.transceivers;
  addTrack(track) {
    const sender = { track, replaceTrack: async (other) => void (sender.track = other) };
    this.transceivers.push({ sender, direction: 'sendrecv' });
    return sender;
  }
  restartIce() {}
  close() {
    this.isClosed = true;
  }
  setConfiguration() {}
}

export class SilentStream {
  constructor(...tracks) {
    this.tracks = tracks;
  }
  getTracks = () => this.tracks;
  addTrack = (track) => void this.tracks.push(track);
}
