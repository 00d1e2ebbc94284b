"""A peer in Python: joins a room, says hello, and answers those who say hello. It has no media.

    pip install websockets
    python python-peer.py http://127.0.0.1:8080 chat Ada
"""
import asyncio, json, sys, urllib.request
import websockets


def guest_token(server, room, name):
    body = json.dumps({"room": room, "name": name}).encode()
    request = urllib.request.Request(f"{server}/auth/token", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as response:
        return json.load(response)["token"]


async def main(server, room, name):
    token = guest_token(server, room, name)
    address = server.replace("http", "ws", 1) + "/ws/signal"
    # The subprotocol carries the token, because proxies log addresses.
    async with websockets.connect(address, subprotocols=["signalbox.v1", f"token.{token}"]) as socket:
        joined = json.loads(await socket.recv())
        peers = {peer["peerId"]: peer for peer in joined["peers"]}
        last_id = 1
        await socket.send(json.dumps({"type": "message", "data": {"text": "hello to all"}, "id": last_id}))
        async for text in socket:
            frame = json.loads(text)
            if frame["type"] in ("peer-joined", "peer-updated"):
                peers[frame["peerId"]] = frame
            elif frame["type"] == "peer-left":
                del peers[frame["peerId"]]
            elif frame["type"] == "message" and "from" in frame:
                print(peers[frame["from"]]["name"], "says:", frame["data"].get("text"), flush=True)
                if frame.get("room"):
                    last_id += 1
                    answer = {"type": "message", "to": frame["from"], "data": {"text": "hello to you"}, "id": last_id}
                    await socket.send(json.dumps(answer))
            elif frame["type"] == "error":
                print(frame["code"], frame["message"], flush=True)


asyncio.run(main(*sys.argv[1:4]))
