// The pages import the client by its place on a server, relative to the page.
declare module '*/client/index.js' {
  export * from '@signalbox/source/index.js';
}
declare module '*/client/room.js' {
  export * from '@signalbox/source/room.js';
}
declare module '*/client/token-source.js' {
  export * from '@signalbox/source/token-source.js';
}
declare module '*/client/peer.js' {
  export * from '@signalbox/source/peer.js';
}
declare module '*/client/moderation.js' {
  export * from '@signalbox/source/moderation.js';
}
declare module '*/client/early-connection.js' {
  export * from '@signalbox/source/early-connection.js';
}
declare module '*/client/client.js' {
  export * from '@signalbox/source/client.js';
}
declare module '*/client/http.js' {
  export * from '@signalbox/source/http.js';
}
declare module '*/client/messages.js' {
  export * from '@signalbox/source/messages.js';
}
