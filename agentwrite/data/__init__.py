"""SFT and DPO rows."""
