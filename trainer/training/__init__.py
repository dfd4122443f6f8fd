"""What steps: a network, a training state and a stream of batches, under Keras's `fit`."""
