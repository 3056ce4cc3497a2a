#!/usr/bin/python3
"""An action for tcpmemd in Python: it appends a line to a file.

It needs remediate.proto, Debian's python3-grpcio and python3-protobuf, and
nothing else of tcpmemd. The messages come from the proto file, beside this one:

    protoc --python_out=. remediate.proto

tcpmemd starts it and reads the first line of its standard output, which says
where it listens; from then on it is called. It ends when its standard input
ends: tcpmemd closes that, or is gone.
"""

import concurrent.futures
import json
import os
import sys
import threading

import grpc

import remediate_pb2 as pb


def problems_of(settings):
    """Returns what is wrong with settings, as (setting, message)."""
    if not isinstance(settings, dict):
        return [("", "want an object")]
    problems = [(name, "unknown setting") for name in settings if name != "file"]
    file = settings.get("file")
    if not isinstance(file, str) or not os.path.isabs(file):
        problems.append(("file", "want an absolute path"))
    return problems


def read(settings_json):
    try:
        return json.loads(settings_json or "{}")
    except ValueError:
        return None


class Action:
    def Describe(self, request, context):
        return pb.Description(
            name="append-line",
            version="1.0",
            about="append a line about the incident to a file",
            touches=pb.TOUCHES_NOTHING,
            settings=[
                pb.Setting(name="file", type="string", required=True, about="absolute path of the file"),
            ],
        )

    def Validate(self, request, context):
        return pb.ValidateResponse(
            problems=[pb.Problem(setting=s, message=m) for s, m in problems_of(read(request.settings_json))]
        )

    def Run(self, request, context):
        settings = read(request.settings_json)
        for setting, message in problems_of(settings):
            return pb.Response(result=pb.RESULT_REFUSED, code="settings", message=f"setting {setting}: {message}")
        change = pb.Change(what=settings["file"], after=request.text.split("\n")[0])
        if request.dry_run:
            return pb.Response(result=pb.RESULT_DRY_RUN, message="would append a line", changes=[change])
        try:
            with open(settings["file"], "a", encoding="utf-8") as f:
                f.write(f"{request.incident_id} {change.after}\n")
        except OSError as e:
            return pb.Response(result=pb.RESULT_UNDELIVERED, code="write", message=str(e))
        return pb.Response(result=pb.RESULT_DELIVERED, message="appended a line", changes=[change])


def service(action):
    """Offers action's methods as the service of the proto file."""

    def method(call, request):
        return grpc.unary_unary_rpc_method_handler(
            call, request_deserializer=request.FromString, response_serializer=lambda m: m.SerializeToString()
        )

    return grpc.method_handlers_generic_handler("remediate.v1.Action", {
        "Describe": method(action.Describe, pb.DescribeRequest),
        "Validate": method(action.Validate, pb.ValidateRequest),
        "Run": method(action.Run, pb.RunRequest),
    })


def main():
    if os.environ.get("TCPMEMD_PLUGIN") != "remediate":
        sys.exit("This is a plugin of tcpmemd, which starts it.")
    server = grpc.server(
        concurrent.futures.ThreadPoolExecutor(max_workers=2),
        options=[("grpc.max_receive_message_length", 17 << 20)],
    )
    server.add_generic_rpc_handlers((service(Action()),))
    # The folder is this process's own; tcpmemd takes no address outside.
    address = os.path.join(os.environ["PLUGIN_UNIX_SOCKET_DIR"], "socket")
    server.add_insecure_port("unix:" + address)
    server.start()
    # go-plugin's protocol 1, version 1 of the contract, the socket, gRPC.
    print(f"1|1|unix|{address}|grpc", flush=True)

    def follow():
        sys.stdin.buffer.read()
        server.stop(grace=None)

    threading.Thread(target=follow, daemon=True).start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
