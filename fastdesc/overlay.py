"""Bytes held in memory that stand in for parts of a file."""

from bisect import bisect_left, bisect_right


class Overlay:
    """Bytes that stand in for parts of a file: disjoint pieces in order of their offsets."""

    def __init__(self, pieces=()):
        self.starts, self.parts = [], []
        for offset, data in pieces:
            self.put(offset, data)

    def _overlapping(self, first, last):
        a = bisect_right(self.starts, first) - 1
        if a < 0 or self.starts[a] + len(self.parts[a]) <= first:
            a += 1
        return a, bisect_left(self.starts, last)

    def put(self, offset, data):
        """Replace bytes from `offset` on."""
        last = offset + len(data)
        a, b = self._overlapping(offset, last)
        if b == a + 1 and self.starts[a] <= offset and self.starts[a] + len(self.parts[a]) >= last:
            at = offset - self.starts[a]
            self.parts[a][at : at + len(data)] = data
            return
        starts, parts = [offset], [bytearray(data)]
        if a < b:
            if self.starts[a] < offset:
                starts.insert(0, self.starts[a])
                parts.insert(0, self.parts[a][: offset - self.starts[a]])
            end = self.starts[b - 1] + len(self.parts[b - 1])
            if end > last:
                starts.append(last)
                parts.append(self.parts[b - 1][last - end :])
        self.starts[a:b], self.parts[a:b] = starts, parts

    def lay_over(self, offset, buffer):
        """Write what is known of the bytes from `offset` on into `buffer`."""
        last = offset + len(buffer)
        for k in range(*self._overlapping(offset, last)):
            start, part = self.starts[k], self.parts[k]
            a, b = max(start, offset), min(start + len(part), last)
            buffer[a - offset : b - offset] = part[a - start : b - start]

    def cut(self, length):
        """Forget everything from `length` on."""
        a, _ = self._overlapping(length, length + 1)
        if a < len(self.starts) and self.starts[a] < length:
            del self.parts[a][length - self.starts[a] :]
            a += 1
        del self.starts[a:], self.parts[a:]

    def __iter__(self):
        return iter(zip(self.starts, self.parts, strict=True))

    def __len__(self):
        return len(self.starts)
