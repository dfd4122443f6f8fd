"""The paper's figures: in each file one figure, its data and its drawing apart. Pure."""
