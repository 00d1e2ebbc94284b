// Free signaling: the two tabs of one browser talk through a channel, without a server.
function connect({ room, stream, show }) {
  const channel = new BroadcastChannel(room);
  const send = (frame) => channel.postMessage(JSON.stringify(frame));
  /** @type {RTCPeerConnection | undefined} */
  let pc;
  const open = () => {
    pc = new RTCPeerConnection();
    for (const track of stream.getTracks()) pc.addTrack(track, stream);
    pc.onicecandidate = ({ candidate }) => candidate && send({ candidate });
    pc.ontrack = ({ streams }) => show(streams[0]);
  };
  const describe = async () => {
    await pc.setLocalDescription();
    send({ description: pc.localDescription });
  };
  channel.onmessage = async ({ data }) => {
    const { description, candidate } = JSON.parse(data);
    if (candidate) return pc.addIceCandidate(candidate);
    if (!pc) open();
    await pc.setRemoteDescription(description);
    return description.type === 'offer' && describe();
  };
  return { open, describe };
}

export const answer = (options) => void connect(options);

export function call(options) {
  const { open, describe } = connect(options);
  open();
  return describe();
}
