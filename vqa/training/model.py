"""The VQA models of ours, by the names of their architectures."""

from __future__ import annotations

from vqa.models import glimpses
from vqa.models.coattention import model as coattention
from vqa.models.lstm_cnn import model as lstm_cnn

Model = lstm_cnn.LstmCnn | coattention.CoAttention | glimpses.Glimpses

ARCHITECTURES = (lstm_cnn.ARCHITECTURE, coattention.ARCHITECTURE, glimpses.ARCHITECTURE)
