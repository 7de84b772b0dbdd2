# A notebook server as Jupyter is one, of what Jupyter is made of: Tornado, Terminado, and kernels in
# processes of their own that are talked to over WebSockets. Jupyter itself has too many packages for
# an emulated machine.

import asyncio
import json
import os
import sys
import uuid

import tornado.web
import tornado.websocket
from terminado import NamedTermManager, TermSocket

LONGEST_LINE = 1 << 26
TOKEN = os.environ["JUPYTER_TOKEN"]
# Runs one request after the other, in one namespace; what is printed is told at once.
KERNEL = """
import json, sys, traceback

class Stream:
    def write(self, text):
        tell(msg_type="stream", content={"name": "stdout", "text": text})
    def flush(self):
        pass

def tell(**message):
    answers.write(json.dumps(message) + "\\n")
    answers.flush()

def execute(code):
    try:
        value = eval(compile(code, "cell", "eval"), namespace)
        if value is not None:
            tell(msg_type="execute_result", content={"data": {"text/plain": repr(value)}})
    except SyntaxError:
        exec(compile(code, "cell", "exec"), namespace)

answers, sys.stdout = sys.stdout, Stream()
namespace = {}
for line in sys.stdin:
    tell(msg_type="status", content={"execution_state": "busy"})
    try:
        execute(json.loads(line))
    except Exception as error:
        tell(msg_type="error", content={"ename": type(error).__name__, "evalue": str(error)})
    tell(msg_type="status", content={"execution_state": "idle"})
"""
kernels = {}


class Authenticated:
    def prepare(self):
        if self.get_argument("token", "") != TOKEN:
            raise tornado.web.HTTPError(403)


class Page(Authenticated, tornado.web.RequestHandler):
    def get(self):
        self.write("<!doctype html><title>A notebook</title>")


class Kernels(Authenticated, tornado.web.RequestHandler):
    async def post(self):
        id = str(uuid.uuid4())
        pipe = asyncio.subprocess.PIPE
        kernels[id] = await asyncio.create_subprocess_exec(
            sys.executable, "-c", KERNEL, stdin=pipe, stdout=pipe, limit=LONGEST_LINE
        )
        self.set_status(201)
        self.write({"id": id})


class Channels(Authenticated, tornado.websocket.WebSocketHandler):
    def open(self, id):
        self.kernel = kernels[id]

    async def on_message(self, message):
        request = json.loads(message)
        code = json.dumps(request["content"]["code"]) + "\n"
        self.kernel.stdin.write(code.encode())
        while True:
            answer = json.loads(await self.kernel.stdout.readline())
            await self.write_message(json.dumps({"parent_header": request["header"], **answer}))
            if answer["content"] == {"execution_state": "idle"}:
                break


class Terminal(Authenticated, TermSocket):
    pass


async def main():
    terminals = NamedTermManager(shell_command=["bash", "--norc"], max_terminals=10)
    application = tornado.web.Application(
        [
            (r"/lab", Page),
            (r"/api/kernels", Kernels),
            (r"/api/kernels/([-\w]+)/channels", Channels),
            (r"/terminals/websocket/(\w+)", Terminal, {"term_manager": terminals}),
        ]
    )
    application.listen(8888, "0.0.0.0")
    await asyncio.Event().wait()


asyncio.run(main())
