"""The order in which an epoch takes the users of a stream.

The row groups of all shards are permuted and laid end to end. The line is cut into lanes of equal
length, each lane into windows, and the users of a window are permuted. The users are then taken
from the lanes in turn. So each step has users of row groups from all over the data, and a process
that packs one in P of a step's shards reads one in P of the lanes.

All of it is a function of the row groups' sizes, the seed and the epoch. Where one window holds all
users, it is the order of data in memory.

Shape legend: G row groups, U users, L lanes.
"""

import dataclasses
import functools

import numpy as np

MOST_LANES = 64
"""L at most."""
GROUPS_A_WINDOW = 4
"""Row groups of a lane's window at least, as far as fewer lanes can bring it about."""


@dataclasses.dataclass(frozen=True)
class Piece:
    """Users of one row group that lie next to each other."""

    group: int
    begin: int
    end: int


@dataclasses.dataclass(frozen=True)
class Window:
    """Users of a lane that are permuted together."""

    lane: int
    number: int
    """Of the window in its lane."""
    begin: int
    """Place of its first user in the lane."""
    end: int


@dataclasses.dataclass(frozen=True, eq=False)
class StreamOrder:
    """The order of every epoch."""

    group_sizes: np.ndarray
    """int64 [G] users of each row group."""
    window_users: int
    """Users of the windows of all lanes together, at most."""
    seed: int

    @functools.cached_property
    def num_users(self) -> int:
        """U."""
        return int(self.group_sizes.sum())

    @functools.cached_property
    def num_lanes(self) -> int:
        """L, a power of two: 1 if a window holds all users, fewer than `MOST_LANES` where row
        groups are large."""
        if self.num_users <= self.window_users:
            return 1
        groups = self.window_users * len(self.group_sizes) // self.num_users
        most = min(max(groups // GROUPS_A_WINDOW, 1), MOST_LANES)
        return 1 << (most.bit_length() - 1)

    def lane_size(self, lane: int) -> int:
        """Users of a lane: those at the places `lane`, `lane + L`, ... of the epoch."""
        return -((lane - self.num_users) // self.num_lanes)

    def window_of(self, lane: int, place: int) -> Window:
        """The window that a place in a lane lies in."""
        size = self.lane_size(lane)
        windows = -(-size * self.num_lanes // self.window_users)
        length = -(-size // windows)
        number = place // length
        return Window(lane, number, number * length, min((number + 1) * length, size))

    def pieces(self, epoch: int, window: Window) -> list[Piece]:
        """What a window is read from, in the order of the users in the data."""
        order_G, end_G = self._line(epoch)
        lanes_before = sum(self.lane_size(lane) for lane in range(window.lane))
        begin, end = lanes_before + window.begin, lanes_before + window.end
        first = int(np.searchsorted(end_G, begin, side="right"))
        last = int(np.searchsorted(end_G, end, side="left"))
        pieces = []
        for index in range(first, last + 1):
            group = int(order_G[index])
            start = int(end_G[index] - self.group_sizes[group])
            inside = max(begin, start) - start, min(end, int(end_G[index])) - start
            if inside[0] < inside[1]:
                pieces.append(Piece(group, *inside))
        return sorted(pieces, key=lambda piece: (piece.group, piece.begin))

    def permutation(self, epoch: int, window: Window) -> np.ndarray:
        """For each place of a window, from its first on, which of the users of `pieces` it has."""
        # The first window's generator is that of data in memory: a seed ends in implied zeros.
        number = window.number * self.num_lanes + window.lane
        rng = np.random.default_rng([self.seed, epoch, number])
        return rng.permutation(window.end - window.begin)

    def users(self, epoch: int, window: Window) -> np.ndarray:
        """int64, index in the data of the user at each place of a window, from its first on."""
        first_G = np.cumsum(self.group_sizes) - self.group_sizes
        parts = [
            first_G[piece.group] + np.arange(piece.begin, piece.end)
            for piece in self.pieces(epoch, window)
        ]
        return np.concatenate(parts)[self.permutation(epoch, window)]

    def _line(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """[G] row groups as they are laid end to end, and [G] where each ends."""
        # A fourth number keeps the generator apart from those of the windows.
        rng = np.random.default_rng([self.seed, epoch, 0, 1])
        order_G = rng.permutation(len(self.group_sizes))
        return order_G, np.cumsum(self.group_sizes[order_G])
