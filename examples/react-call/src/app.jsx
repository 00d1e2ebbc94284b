import { useEffect, useRef, useState } from 'react';
import { useRoom } from '@signalbox/client/react';

// The only address of Signalbox in this example.
const SERVER = 'http://localhost:8080';

const TEXTS = { connecting: 'Connecting …', lobby: 'Wait until a moderator admits you.', open: 'You are in the call.', waiting: 'Trying again …', closed: 'You are not in the call.' };

export function App() {
  const [call, setCall] = useState(null);
  const [problem, setProblem] = useState('');

  const join = async (form) => {
    try {
      const media = await navigator.mediaDevices.getUserMedia({ audio: true, video: true });
      setProblem('');
      setCall({ name: form.get('name'), media });
    } catch (error) {
      setProblem(error.message);
    }
  };
  const leave = () => {
    for (const track of call.media.getTracks()) track.stop();
    setCall(null);
  };

  if (call) return <Call {...call} onLeave={leave} />;
  return (
    <form action={join}>
      <label>Your name <input name="name" maxLength={64} autoComplete="name" required /></label> <button>Join</button>
      <p role="status">{problem}</p>
    </form>
  );
}

/** Is in the room as long as it is mounted, as a guest. For your own users: examples/README.md, "A page with your own users". */
function Call({ name, media, onLeave }) {
  const { peers, state, error } = useRoom({ url: SERVER, room: 'stand-up', name, media });
  return (
    <>
      <button onClick={onLeave}>Leave</button>
      <p role="status">{TEXTS[state]} {error?.message}</p>
      <div id="videos">
        <Video name="You" stream={media} muted />
        {peers.map(({ peerId, name, stream }) => <Video key={peerId} name={name} stream={stream} />)}
      </div>
    </>
  );
}

function Video({ name, stream, muted = false }) {
  const video = useRef(null);
  useEffect(() => {
    video.current.srcObject = stream;
  }, [stream]);
  return (
    <figure>
      <video ref={video} autoPlay playsInline muted={muted} />
      <figcaption>{name}</figcaption>
    </figure>
  );
}
