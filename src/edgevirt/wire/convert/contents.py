"""Datastores, content trees and volumes, and the secrets that came with them: both ways."""

from __future__ import annotations

from typing import Final, cast

from edgevirt.model.content import (
    CipherBlock,
    ContentFormat,
    ContentTree,
    Datastore,
    DatastoreType,
)
from edgevirt.model.ids import ContentTreeId, DatastoreId, VolumeId
from edgevirt.model.node import CipherContext
from edgevirt.model.volume import Volume, VolumeOrigin
from edgevirt.wire.convert.rest import (
    copy_without,
    enum_of,
    forget,
    identity,
    pack,
    reference,
    unpack,
)
from edgevirt.wire.convert.signers import fill_signers, signers, take_signers
from edgevirt.wire.messages import common, config

_CIPHER_FIELDS: Final = ("cipherContextId", "initialValue", "cipherData", "clearTextSha256")


def cipher_block(message: common.CipherBlock) -> CipherBlock:
    return CipherBlock(
        context_id=message.cipherContextId,
        initial_value=message.initialValue,
        data=message.cipherData,
        clear_sha256=message.clearTextSha256,
    )


def fill_cipher_block(message: common.CipherBlock, noun: CipherBlock) -> None:
    message.cipherContextId = noun.context_id
    message.initialValue = noun.initial_value
    message.cipherData = noun.data
    message.clearTextSha256 = noun.clear_sha256


def cipher_block_message(noun: CipherBlock) -> common.CipherBlock:
    """As `wire.cipher` opens it."""
    message = common.CipherBlock()
    fill_cipher_block(message, noun)
    return message


def take_cipher_block(
    holder: config.DatastoreConfig | config.AppInstanceConfig,
) -> CipherBlock | None:
    """The block of `holder`, and out of it what the noun holds."""
    if not holder.HasField("cipherData"):
        return None
    noun = cipher_block(holder.cipherData)
    left = copy_without(holder.cipherData, *_CIPHER_FIELDS)
    holder.ClearField("cipherData")
    if left.ByteSize():
        holder.cipherData.CopyFrom(left)
    return noun


def cipher_context(message: common.CipherContext) -> CipherContext:
    rest = copy_without(message, "contextId", "controllerCertHash", "deviceCertHash")
    if _schemes(rest) == _DEFAULT_SCHEMES:
        for name in _SCHEMES:
            rest.ClearField(name)
    return CipherContext(
        id=message.contextId,
        controller_cert_hash=message.controllerCertHash,
        device_cert_hash=message.deviceCertHash,
        rest=pack(rest),
    )


def cipher_context_message(noun: CipherContext) -> common.CipherContext:
    """Schemes that `rest` leaves open are the only ones that exist."""
    message = unpack(common.CipherContext, noun.rest)
    if not any(_schemes(message)):
        message.hashScheme = common.HASH_ALGORITHM_SHA256_16BYTES
        message.keyExchangeScheme = common.KEA_ECDH
        message.encryptionScheme = common.SA_AES_256_CFB
    message.contextId = noun.id
    message.controllerCertHash = noun.controller_cert_hash
    message.deviceCertHash = noun.device_cert_hash
    return message


def datastore(message: config.DatastoreConfig) -> Datastore:
    what = f"datastore {message.id}"
    rest = copy_without(
        message, "id", "dType", "fqdn", "apiKey", "password", "dpath", "region", "dsCertPEM"
    )
    block = take_cipher_block(rest)
    return Datastore(
        id=DatastoreId(identity(message.id, what)),
        type=enum_of(DatastoreType, message.dType, what),
        fqdn=message.fqdn,
        dpath=message.dpath,
        api_key=message.apiKey,
        password=message.password,
        region=message.region,
        ca_pem=tuple(pem.decode("latin-1") for pem in message.dsCertPEM),
        cipher=block,
        rest=pack(rest),
    )


def datastore_message(noun: Datastore) -> config.DatastoreConfig:
    message = unpack(config.DatastoreConfig, noun.rest)
    message.id = noun.id
    message.dType = cast("config.DsType", int(noun.type))
    message.fqdn = noun.fqdn
    message.dpath = noun.dpath
    message.apiKey = noun.api_key
    message.password = noun.password
    message.region = noun.region
    message.dsCertPEM.extend(pem.encode("latin-1") for pem in noun.ca_pem)
    if noun.cipher is not None:
        fill_cipher_block(message.cipherData, noun.cipher)
    return message


def content_tree(message: config.ContentTree) -> ContentTree:
    """A list of datastores outranks the single one, which is what older configs have."""
    what = f"content tree {message.uuid}"
    stores = list(message.ds_ids_list) or ([message.dsId] if message.dsId else [])
    rest = copy_without(
        message,
        *("uuid", "dsId", "ds_ids_list", "URL", "iformat", "sha256"),
        *("maxSizeBytes", "displayName", "generation_count"),
    )
    take_signers(rest)
    return ContentTree(
        id=ContentTreeId(identity(message.uuid, what)),
        datastores=tuple(DatastoreId(reference(store)) for store in stores),
        url=message.URL,
        format=enum_of(ContentFormat, message.iformat, what),
        sha256=message.sha256.strip().lower(),
        max_size=message.maxSizeBytes,
        name=message.displayName,
        generation=message.generation_count,
        signers=signers(message),
        rest=pack(rest),
    )


def content_tree_message(noun: ContentTree) -> config.ContentTree:
    """Names the first datastore in the old place too, for nodes that know no list."""
    message = unpack(config.ContentTree, noun.rest)
    message.uuid = noun.id
    message.dsId = noun.datastores[0] if noun.datastores else ""
    message.ds_ids_list.extend(noun.datastores)
    message.URL = noun.url
    message.iformat = cast("config.Format", int(noun.format))
    message.sha256 = noun.sha256
    message.maxSizeBytes = noun.max_size
    message.displayName = noun.name
    message.generation_count = noun.generation
    fill_signers(message, noun.signers)
    return message


def volume(message: config.Volume) -> Volume:
    what = f"volume {message.uuid}"
    rest = copy_without(
        message,
        *("uuid", "generationCount", "maxsizebytes", "readonly", "clear_text", "displayName"),
    )
    tree = reference(message.origin.downloadContentTreeID)
    forget(rest, ("origin",), ("type", "downloadContentTreeID"))
    return Volume(
        id=VolumeId(identity(message.uuid, what)),
        origin=enum_of(VolumeOrigin, message.origin.type, what),
        generation=message.generationCount,
        content_tree=ContentTreeId(tree) if tree else None,
        max_size=message.maxsizebytes,
        readonly=message.readonly,
        clear_text=message.clear_text,
        name=message.displayName,
        rest=pack(rest),
    )


def volume_message(noun: Volume) -> config.Volume:
    message = unpack(config.Volume, noun.rest)
    message.uuid = noun.id
    message.origin.type = cast("config.VolumeContentOriginType", int(noun.origin))
    message.origin.downloadContentTreeID = noun.content_tree or ""
    message.generationCount = noun.generation
    message.maxsizebytes = noun.max_size
    message.readonly = noun.readonly
    message.clear_text = noun.clear_text
    message.displayName = noun.name
    return message


_SCHEMES: Final = ("hashScheme", "keyExchangeScheme", "encryptionScheme")
_DEFAULT_SCHEMES: Final = (
    common.HASH_ALGORITHM_SHA256_16BYTES,
    common.KEA_ECDH,
    common.SA_AES_256_CFB,
)


def _schemes(message: common.CipherContext) -> tuple[int, ...]:
    return tuple(getattr(message, name) for name in _SCHEMES)
