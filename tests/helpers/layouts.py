"""Where the fields of the kernels' structs lie: a text that compiles only if all compilers put them where we do."""

import re

from fastdesc.backend import cuda, declarations


def layouts():
    """Return a text with the struct of every kernel, and an assertion for its size and for each of its fields."""
    lines = [(cuda.kernels_folder() / "common.cuh").read_text().replace("#pragma once", ""), "using namespace fd;"]
    for number, (file, names) in enumerate(cuda.all_specialisations().items()):
        text = declarations.without_comments(cuda.source(file))
        texts = {m[2]: m[0] for m in declarations.PLAIN_STRUCT.finditer(text)}
        asserted = {}
        for name in names:
            bare, _, given = name.partition("<")
            kind = re.search(r"const (\w+)(<\w+>)? \w+$", cuda._declarations(file)[bare][1].strip())
            scalar = f"<{given.removesuffix('>').split(',')[0]}>" if kind[2] else ""
            asserted[kind[1], scalar] = cuda.parameters(file, name)[-1][2]
        lines.append(f"namespace file_{number} {{")
        lines += [texts[struct] for struct in dict.fromkeys(struct for struct, _ in asserted)]
        for (struct, scalar), dtype in asserted.items():
            lines.append(f'static_assert(sizeof({struct}{scalar}) == {dtype.itemsize}, "{struct}");')
            for field, (_, offset) in dtype.fields.items():
                lines.append(f'static_assert(__builtin_offsetof({struct}{scalar}, {field}) == {offset}, "{field}");')
        lines.append("}")
    return "\n".join(lines)
