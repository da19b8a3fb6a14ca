"""Images, labels, files, processes; options, training, inference, scores."""
