"""Breaking symmetry: how do transformers without positional encoding know the order of their input?"""
