// Colours and textures of the charts. Each series has both, so that no chart is told apart by colour alone.
"use strict";

const chartColours = (() => {
  const COLOUR_OF = { succeeded: "--spent", failed: "--chart-2", USD: "--chart-1", p50: "--chart-1", p95: "--chart-2", p99: "--chart-3" };
  const TEXTURE_OF = { failed: 1 };
  const SERIES_COLOURS = ["--chart-1", "--chart-2", "--chart-3", "--chart-4", "--chart-5", "--chart-6"];
  const DASHES = { p95: [7, 4], p99: [2, 3] };
  const TILE_PIXELS = 8;
  /** How a texture is drawn into its tile, above a paler ground. The first one is filled. */
  const TEXTURES = [
    (tile) => tile.fillRect(0, 0, TILE_PIXELS, TILE_PIXELS),
    (tile) => slanted(tile, 1),
    (tile) => slanted(tile, -1),
    (tile) => tile.fillRect(0, 0, TILE_PIXELS, TILE_PIXELS / 2),
    (tile) => tile.fillRect(2, 2, 4, 4),
    (tile) => tile.fillRect(0, 0, TILE_PIXELS / 2, TILE_PIXELS),
  ];

  function slanted(tile, direction) {
    tile.lineWidth = 3;
    tile.beginPath();
    for (const start of [-TILE_PIXELS, 0, TILE_PIXELS]) {
      tile.moveTo(start, direction > 0 ? TILE_PIXELS : 0);
      tile.lineTo(start + TILE_PIXELS, direction > 0 ? 0 : TILE_PIXELS);
    }
    tile.stroke();
  }

  const named = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const textureOf = (name, index) => TEXTURE_OF[name] ?? index % TEXTURES.length;

  /** The colour of a series, by its name or else by its place in the chart. */
  function colour(name, index) {
    return named(COLOUR_OF[name] ?? SERIES_COLOURS[index % SERIES_COLOURS.length]);
  }

  function pattern(texture, painted, groundAlpha) {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = TILE_PIXELS;
    const tile = canvas.getContext("2d");
    tile.fillStyle = tile.strokeStyle = painted;
    tile.globalAlpha = groundAlpha;
    tile.fillRect(0, 0, TILE_PIXELS, TILE_PIXELS);
    tile.globalAlpha = 1;
    TEXTURES[texture](tile);
    return tile.createPattern(canvas, "repeat");
  }

  /** The fill of the bars of a series. */
  const fill = (name, index) => pattern(textureOf(name, index), colour(name, index), 0.35);

  /** The fill of times of which nothing is known. */
  const unknown = () => pattern(1, named("--rest"), 0);

  /** Show the texture or the dashes of a series beside its name in the legend. */
  function mark(marker, name, index, isFilled) {
    marker.classList.add(isFilled ? `texture-${textureOf(name, index)}` : `line-${index % 3}`);
    marker.style.color = colour(name, index);
  }

  return { colour, dash: (name) => DASHES[name], fill, mark, named, unknown };
})();
