"""The pictures and the numbers behind them: differences, gallery, overlap of selections, injected label noise."""
