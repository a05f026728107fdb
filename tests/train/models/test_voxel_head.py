"""What is told of a grid, and how it is judged."""

from __future__ import annotations

import torch

from train.models.voxel_head import VoxelHead, voxel_loss
from train.voxels import SHAPE


def test_the_head_fills_the_grid():
    """Each voxel and each height depends on what is remembered; it is small."""
    torch.manual_seed(0)
    head = VoxelHead(64, SHAPE)
    one, other = torch.randn(2, 3, 64)
    (occupied, heights), (occupied_2, heights_2) = head(one), head(other)
    assert occupied.shape == (3, *SHAPE)
    assert heights.shape == (3, *SHAPE[:2])
    assert ((occupied - occupied_2).abs() > 0).all()
    assert ((heights - heights_2).abs() > 0).all()
    assert sum(weights.numel() for weights in head.parameters()) < 60_000


def test_heights_belong_to_the_columns_of_their_voxels():
    """A change of one layer's weight that touches one column of voxels touches that height only."""
    torch.manual_seed(1)
    head = VoxelHead(8, SHAPE)
    volume = head.network(torch.randn(1, 8)).detach()
    changed = volume.clone()
    changed[0, 1, 3, 12, 5] += 1
    head.network = torch.nn.Identity()  # type: ignore[assignment]
    difference = (head(changed)[1] - head(volume)[1])[0]
    assert torch.nonzero(difference).tolist() == [[3, 12]]


def test_few_occupied_voxels_count_as_much_as_the_many_free_ones():
    """By hand: 2 of 16 voxels are occupied, of which one is found; a height is 0.3 m wrong, the other 0.02 m."""
    truth = torch.zeros(1, 2, 1, 9)
    truth[0, 0, 0, 1] = truth[0, 1, 0, 7] = 1
    truth[..., -1] = torch.tensor([[[0.5], [-0.2]]])
    logits = torch.full((1, 2, 1, 8), -2.0)
    logits[0, 0, 0, 1] = logits[0, 0, 0, 2] = 3.0
    loss, iou = voxel_loss(logits, torch.tensor([[[0.2], [-0.18]]]), truth)
    right, wrong = torch.nn.functional.softplus(torch.tensor([[-3.0, -2.0], [3.0, 2.0]]))
    of_occupied, of_free = (right[0] + wrong[1]) / 2, (wrong[0] + 13 * right[1]) / 14
    of_heights = ((0.3 - 0.05) + 0.5 * 0.02**2 / 0.1) / 2
    torch.testing.assert_close(loss, (of_occupied + of_free) / 2 + of_heights)
    torch.testing.assert_close(iou, torch.tensor(1 / 3))


def test_nothing_occupied_is_no_division_by_zero():
    """Far from everything."""
    logits = torch.full((2, 3, 1, 4), -1.0, requires_grad=True)
    loss, iou = voxel_loss(logits, torch.zeros(2, 3, 1), torch.zeros(2, 3, 1, 5))
    loss.backward()
    assert torch.isfinite(loss)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert iou == 0
