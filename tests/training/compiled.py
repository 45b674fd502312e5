"""Program for test_population.py, without the shape checks of all other tests, which would be compiled as well."""

import torch

from pipeline.params import Model
from pipeline.training.population import Population

LENGTH = VOCABULARY = 5
COMPILE = torch.compile


def one_graph(run, mode, fullgraph):  # type: ignore[no-untyped-def]
    """Compile without generating code, which is not tested and would take a minute."""
    return COMPILE(run, backend="eager", fullgraph=fullgraph)


def main() -> None:
    torch.compile = one_graph
    config = Model(
        layers=1, heads=2, width=8, dropout=0.3, residual_free=[0], residual_substitute="noise", positional_until=2
    )
    donors, tokens = torch.randint(VOCABULARY, (2, 3, 4, LENGTH), generator=torch.Generator().manual_seed(0))
    shape = {"vocabulary": VOCABULARY, "length": LENGTH, "donors": donors[0]}
    compiled, plain = (
        Population(config, [3, 1, 4], average=0.9, compiled=yes, **shape).double() for yes in (True, False)
    )
    positions = torch.tensor([2, 3]).expand(3, 4, 2)
    for members in (3, 2):
        for population in (compiled, plain):
            population.keep_members(list(range(members)))
            population.train()(tokens[:members], positions[:members], 2).square().sum().backward()
            population.update_average(members)
        for parameter, expected in zip(compiled.stacked, plain.stacked, strict=True):
            torch.testing.assert_close(parameter.grad, expected.grad)
        evaluated = (population.eval()(tokens[:members], positions[:members]) for population in (compiled, plain))
        torch.testing.assert_close(*evaluated)
    print("the same")


if __name__ == "__main__":
    main()
