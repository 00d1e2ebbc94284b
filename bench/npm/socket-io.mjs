// A signaling server with Socket.IO, as its guides write one: rooms, addressed messages, broadcasts.
// With REDIS_URL, several processes serve the same rooms.
import { createAdapter } from "@socket.io/redis-adapter";
import { createClient } from "redis";
import { Server } from "socket.io";

const options = { serveClient: false, transports: ["websocket"] };
if (process.env.REDIS_URL) {
  const publisher = createClient({ url: process.env.REDIS_URL });
  const subscriber = publisher.duplicate();
  await Promise.all([publisher.connect(), subscriber.connect()]);
  options.adapter = createAdapter(publisher, subscriber);
}

const io = new Server(options);
io.on("connection", (socket) => {
  socket.on("join", (room, joined) => {
    socket.join(room);
    socket.to(room).emit("peer-joined", socket.id);
    socket.on("disconnect", () => io.to(room).emit("peer-left", socket.id));
    joined();
  });
  socket.on("signal", (to, message) => io.to(to).emit("signal", socket.id, message));
  socket.on("broadcast", (room, message) => socket.to(room).emit("signal", socket.id, message));
});
// `attach` listens without a host; a server of our own listens on loopback only.
const { createServer } = await import("node:http");
const server = createServer();
io.attach(server);
server.listen(Number(process.env.PORT), "127.0.0.1");
