"""A process between a client and PostgreSQL that makes every message late and counts round trips: how often the client
speaks after the server did. Usage: delay.py <port> <milliseconds>. Prints its port, and the count after each line of
its standard input; ends with it."""

import asyncio
import sys


class Counter:
    """Round trips so far."""
    def __init__(self):
        self.count = 0


def forward(reader, writer, each, seconds):
    """Passes on what comes, late."""
    async def pump():
        loop = asyncio.get_running_loop()
        while data := await reader.read(1 << 16):
            each()
            if seconds:
                loop.call_later(seconds, writer.write, data)
            else:
                writer.write(data)
        await asyncio.sleep(seconds)
        writer.close()
    return pump()


async def main(port, milliseconds):
    """Listens on loopback until standard input ends."""
    counter = Counter()

    async def serve(from_client, to_client):
        from_server, to_server = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
        waiting = {"for_client": True}

        def asked():
            if waiting["for_client"]:
                counter.count += 1
            waiting["for_client"] = False

        def answered():
            waiting["for_client"] = True

        late = milliseconds / 2e3
        await asyncio.gather(
            forward(from_client, to_server, asked, late), forward(from_server, to_client, answered, late),
            return_exceptions=True,
        )

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    loop = asyncio.get_running_loop()
    while await loop.run_in_executor(None, sys.stdin.readline):
        print(counter.count, flush=True)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2])))
