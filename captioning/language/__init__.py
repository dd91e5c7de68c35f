"""Words and tokens, the LSTM, beam search: what captioners of any CNN share."""
