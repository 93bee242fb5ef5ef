"""Item and shopper texts, and the encoders that read them."""

from recsys.text.bert import share_weights
from recsys.text.bi_encoder import BiEncoder
from recsys.text.calibration import Calibration
from recsys.text.clean import clean
from recsys.text.compiled_layers import CompiledLayers
from recsys.text.cross_encoder import CLICK, PURCHASE, CrossEncoder, CrossEncoderShape
from recsys.text.devices import Device, usable_device
from recsys.text.encode import autocast, encode_states, encode_vectors
from recsys.text.kernels import FastestPrecision, sample_seconds
from recsys.text.pair_scores import PairScoreCounts, PairScores
from recsys.text.pretrained import load_bert, load_tokenizer, locate, save_tokenizer
from recsys.text.render import (
    ShopperTextKind,
    ShopperTexts,
    render_item,
    render_items,
    render_shoppers,
)
from recsys.text.scorer import TextScorer
from recsys.text.shopper_side import ShopperSide
from recsys.text.stored_states import FileRows, FileStates, JoinedStates
from recsys.text.tables import ItemStates, StateTable, TokenTable

__all__ = [
    "CLICK",
    "PURCHASE",
    "BiEncoder",
    "Calibration",
    "CompiledLayers",
    "CrossEncoder",
    "CrossEncoderShape",
    "Device",
    "FastestPrecision",
    "FileRows",
    "FileStates",
    "ItemStates",
    "JoinedStates",
    "PairScoreCounts",
    "PairScores",
    "ShopperSide",
    "ShopperTextKind",
    "ShopperTexts",
    "StateTable",
    "TextScorer",
    "TokenTable",
    "autocast",
    "clean",
    "encode_states",
    "encode_vectors",
    "load_bert",
    "load_tokenizer",
    "locate",
    "render_item",
    "render_items",
    "render_shoppers",
    "sample_seconds",
    "save_tokenizer",
    "share_weights",
    "usable_device",
]
