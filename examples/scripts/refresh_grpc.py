#!/usr/bin/env python3
"""Brings what an image set lacks, within limits, with grpcio by reflection: no generated code, nothing to keep in step with the daemon.

refresh_grpc.py ADDRESS IMAGE_SET [MAX_BYTES]

ADDRESS is unix:///PATH or HOST:PORT. With TLS where IMAGESETD_CA_FILE is set, and a bearer token from IMAGESETD_TOKEN_FILE. A plan that drains nodes
is applied where ALLOW_DRAIN=1. Needs the packages grpcio and grpcio-reflection. Exit codes: 0 done, 1 an error, 3 beyond the limits, 6 the run did not
bring everything.
"""

import os
import sys

import grpc
from google.protobuf import descriptor_pool, json_format, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

SERVICE = "imageset.v1.MirrorService"


class Mirror:
    """Calls the service by the names that it says of itself."""

    def __init__(self, channel):
        self.channel = channel
        self.pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
        self.service = self.pool.FindServiceByName(SERVICE)

    def call(self, method, **request):
        rpc = self.service.methods_by_name[method]
        asked, answered = (message_factory.GetMessageClass(message) for message in (rpc.input_type, rpc.output_type))
        kind = self.channel.unary_stream if rpc.server_streaming else self.channel.unary_unary
        ask = kind("/%s/%s" % (SERVICE, method), request_serializer=asked.SerializeToString, response_deserializer=answered.FromString)
        return ask(json_format.ParseDict(request, asked()))


def read(variable):
    with open(os.environ[variable], "rb") as file:
        return file.read()


def connect(address):
    # For a Unix socket gRPC's core would send the path as the host, which HTTP does not allow.
    options = [("grpc.default_authority", "localhost")] if address.startswith("unix:") else []
    if "IMAGESETD_CA_FILE" not in os.environ:
        return grpc.insecure_channel(address, options)
    credentials = grpc.ssl_channel_credentials(read("IMAGESETD_CA_FILE"))
    if "IMAGESETD_TOKEN_FILE" in os.environ:
        token = grpc.access_token_call_credentials(read("IMAGESETD_TOKEN_FILE").decode().strip())
        credentials = grpc.composite_channel_credentials(credentials, token)
    return grpc.secure_channel(address, credentials, options)


def refresh(mirror, image_set, max_bytes):
    plan = mirror.call("CreatePlan", image_set=image_set).plans[0]
    enums = mirror.pool.FindEnumTypeByName
    if plan.freshness == enums("imageset.v1.Freshness").values_by_name["FRESHNESS_APPLIED"].number:
        print("%s: nothing to do" % image_set)
        return 0
    print("%s: plan %s, %d images, %d bytes" % (image_set, plan.id[:12], plan.step_count, plan.bytes))
    if plan.bytes > max_bytes:
        print("%s: more than %d bytes" % (image_set, max_bytes), file=sys.stderr)
        return 3
    if plan.node_impact.drain and os.environ.get("ALLOW_DRAIN") != "1":
        print("%s: nodes would be drained; ALLOW_DRAIN=1 lets it" % image_set, file=sys.stderr)
        return 3
    # The run belongs to the daemon: what breaks off here goes on there, and calling again attaches to it.
    for answer in mirror.call("ApplyPlan", plan_id=plan.id):
        event = answer.event
        if event.HasField("image") and event.image.cause:
            print("failed: %s: %s" % (event.image.image, event.image.cause))
    run = event.finished
    state = enums("imageset.v1.RunState").values_by_number[run.state].name
    print("%s: run %s %s" % (image_set, run.id, state))
    return 0 if state == "RUN_STATE_SUCCEEDED" else 6


def main(address, image_set, max_bytes=str(500 << 30)):
    try:
        return refresh(Mirror(connect(address)), image_set, int(max_bytes))
    except grpc.RpcError as error:
        reason = dict(error.trailing_metadata() or ()).get("imagesetd-reason", error.code().name)
        print("%s: %s" % (reason, error.details()), file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
