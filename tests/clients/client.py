"""A client that knows nothing of the proto files: calls what the command line names, by reflection, and prints JSON.

client.py ADDRESS METHOD REQUEST: one answer a line; for a refusal {"code", "reason", "message", "details"}.
With TLS where CA_FILE is set, a client certificate from CLIENT_CERT and CLIENT_KEY, a bearer token from TOKEN_FILE.
"""

import json
import os
import sys

import grpc
from google.protobuf import any_pb2, descriptor_pool, json_format, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

SERVICE = "imageset.v1.MirrorService"


def printed(message, pool):
    text = json_format.MessageToDict(
        message, always_print_fields_with_no_presence=True, descriptor_pool=pool
    )
    print(json.dumps(text))


def details_of(error, pool, classes):
    trailers = dict(error.trailing_metadata())
    raw = trailers.get("grpc-status-details-bin")
    if raw is None:
        return []
    # google.rpc.Status: the details are its third field. Parsed by hand, so that nothing of Google's has to be installed.
    details = []
    while raw:
        tag, raw = raw[0], raw[1:]
        length, shift = 0, 0
        while True:
            byte, raw = raw[0], raw[1:]
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        if tag & 7 == 2:
            value, raw = raw[:length], raw[length:]
            if tag >> 3 == 3:
                packed = any_pb2.Any.FromString(value)
                name = packed.type_url.rsplit("/", 1)[1]
                message = classes(pool.FindMessageTypeByName(name)).FromString(packed.value)
                details.append(json_format.MessageToDict(message))
    return details


def read(name):
    path = os.environ.get(name)
    if path is None:
        return None
    with open(path, "rb") as file:
        return file.read()


def credentials():
    tls = grpc.ssl_channel_credentials(read("CA_FILE"), read("CLIENT_KEY"), read("CLIENT_CERT"))
    token = read("TOKEN_FILE")
    if token is None:
        return tls
    bearer = grpc.access_token_call_credentials(token.decode().strip())
    return grpc.composite_channel_credentials(tls, bearer)


def connect(address):
    if "CA_FILE" in os.environ:
        return grpc.secure_channel(address, credentials())
    # For a Unix socket gRPC's core calls the host `%2Fpath%2Fof%2Fsocket`, which is no authority of HTTP: the server's HTTP/2 refuses it.
    return grpc.insecure_channel(address, [("grpc.default_authority", "localhost")])


def main(address, method, request):
    channel = connect(address)
    pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
    classes = message_factory.GetMessageClass
    rpc = pool.FindServiceByName(SERVICE).methods_by_name[method]
    options = {
        "request_serializer": classes(rpc.input_type).SerializeToString,
        "response_deserializer": classes(rpc.output_type).FromString,
    }
    path = f"/{SERVICE}/{method}"
    asked = json_format.Parse(request, classes(rpc.input_type)(), descriptor_pool=pool)
    try:
        if rpc.server_streaming:
            for answer in channel.unary_stream(path, **options)(asked, timeout=60):
                printed(answer, pool)
        else:
            printed(channel.unary_unary(path, **options)(asked, timeout=60), pool)
    except grpc.RpcError as error:
        trailers = dict(error.trailing_metadata())
        refusal = {
            "code": error.code().name,
            "reason": trailers.get("imagesetd-reason"),
            "message": error.details(),
            "details": details_of(error, pool, classes),
        }
        print(json.dumps(refusal))


main(*sys.argv[1:])
