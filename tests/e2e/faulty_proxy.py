"""A TCP proxy that misbehaves: delays, clogs and cuts of what passes through. For tests that need a bad network between real processes.

    proxy = FaultyProxy({listen_port: target_port, ...}, random.Random(seed)); proxy.start(); ...; proxy.stop()

Bytes that are delivered are never changed or reordered: TCP does not do that. A connection is cut at a random moment, in the middle of
a message as often as not; a clogged one delivers nothing for a while, in one direction or both, and then everything."""
import asyncio
import threading

CHUNK = 16384


class FaultyProxy:
    def __init__(self, ports, rng, delay_s=0.02, clog_s=1.5):
        self.ports, self.rng, self.delay_s, self.clog_s = ports, rng, delay_s, clog_s
        self.connections, self.cuts, self.clogs, self.bytes = set(), 0, 0, 0
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.ready = threading.Event()

    def start(self):
        self.thread.start()
        self.ready.wait(10)

    def stop(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)

    def cut(self):
        """Ends every connection that passes through now."""
        self.loop.call_soon_threadsafe(self._cut)

    def _cut(self):
        for writer in list(self.connections):
            writer.transport.abort()
        self.cuts += 1

    def _run(self):
        asyncio.set_event_loop(self.loop)
        for listen, target in self.ports.items():
            serve = asyncio.start_server(lambda r, w, t=target: self._serve(r, w, t), "127.0.0.1", listen)
            self.loop.run_until_complete(serve)
        self.ready.set()
        self.loop.run_forever()
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()

    async def _serve(self, reader, writer, target):
        try:
            target_reader, target_writer = await asyncio.open_connection("127.0.0.1", target)
        except OSError:
            writer.close()
            return
        self.connections |= {writer, target_writer}
        ways = [asyncio.ensure_future(self._pipe(reader, target_writer)),
                asyncio.ensure_future(self._pipe(target_reader, writer))]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        for end in (writer, target_writer):
            end.close()
            self.connections.discard(end)

    async def _pipe(self, reader, writer):
        try:
            while data := await reader.read(CHUNK):
                await asyncio.sleep(self._pause())
                writer.write(data)
                await writer.drain()
                self.bytes += len(data)
        except OSError:
            pass

    def _pause(self):
        if self.rng.random() < 0.002:
            self.clogs += 1
            return self.rng.uniform(0, self.clog_s)
        return self.rng.uniform(0, self.delay_s) if self.rng.random() < 0.2 else 0
