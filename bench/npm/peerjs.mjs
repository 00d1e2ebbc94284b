// The PeerJS server with its default settings, but for more connections.
import { PeerServer } from "peer";

PeerServer({ host: "127.0.0.1", port: Number(process.env.PORT), concurrent_limit: 100_000 });
