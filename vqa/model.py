"""The VQA models of ours, by the names of their architectures."""

from __future__ import annotations

from vqa import coattention, lstm_cnn

Model = lstm_cnn.LstmCnn | coattention.CoAttention

ARCHITECTURES = (lstm_cnn.ARCHITECTURE, coattention.ARCHITECTURE)
