"""The tests, in the rooms of what they test, with what they share in support.

From tfpipeline: system, images, batches, training, pictures. From labeling: teachers, enlarging, labels, work. From
models: gradients, networks. Then jobs. Through several of these go faults (kills, full disks, flipped bits, changes),
documents (README, docs, the notebook) and peers (PyTorch).
"""
