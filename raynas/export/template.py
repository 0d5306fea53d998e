"""The parts of an exported file that are the same in all of them."""

FILE = '''"""{title}

A network for images [{channels}, {height}, {width}] of {number} classes, in plain PyTorch. It needs
torch and safetensors; its weights lie beside this file, in {name}.safetensors.
{usage}
    from {name} import load, normalized

    model = load()
    logits = model(normalized(images))  # images as they were trained on: {range}

The design, as the search writes it:

{architecture}
"""

{imports}

{classes}
MEAN = {mean}  # of each channel, before it was normalized
STD = {std}


@BODY@


def load(weights: str | Path = Path(__file__).with_suffix(".safetensors")) -> nn.Module:
    """The trained network, ready to classify."""
    model = network()
    model.load_state_dict(load_file(weights))
    return model.eval()
'''

NORMALIZED = '''def normalized(images: Tensor) -> Tensor:
    """Images `[N, C, H, W]` as the network takes them: mean 0 and deviation 1 per channel."""
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (MEAN, STD))
    return (images.float() - mean) * (1 / std)'''

USAGE = """
    python {name}.py PICTURE...          # the class of each picture
    python {name}.py --evaluate FOLDER   # the accuracy on a folder of class folders
"""

MAIN = '''

def prepared(file: str | Path) -> Tensor:
    """A picture file as the network takes it: its short side fitted, the middle cut out."""
    from PIL import Image, ImageOps

    size = ({width}, {height})
    image = Image.open(file).convert("{colours}")
    if image.size != size:
        image = ImageOps.fit(image, size, Image.Resampling.BILINEAR)
    pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    pixels = pixels.view(1, {height}, {width}, {channels}).permute(0, 3, 1, 2)
    return normalized({pixels})


@torch.no_grad()
def main() -> None:
    """Prints the class of each picture, or the accuracy on a folder of class folders."""
    model = load()
    if sys.argv[1:2] == ["--evaluate"]:
        files = [file for file in Path(sys.argv[2]).glob("*/*") if file.parent.name in CLASSES]
        right = 0
        for file in files:
            right += CLASSES[model(prepared(file)).argmax()] == file.parent.name
        print(f"{{right / len(files):.2%}} of {{len(files)}} pictures")
        return
    for file in sys.argv[1:]:
        chances = model(prepared(file)).softmax(1)[0]
        print(f"{{file}}: {{CLASSES[chances.argmax()]}} ({{chances.max():.1%}})")


if __name__ == "__main__":
    main()
'''
