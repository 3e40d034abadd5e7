// Runs once for each place of the page that shows heat maps. Its content changes with every text, so all events are
// listened to at `element`, and nothing is remembered but what the document itself says.

const numbersOfViews = (map) => JSON.parse(map.dataset.views);

function headersOf(cell) {
  const table = cell.closest("table");
  return { source: table.tHead.rows[0].cells[cell.cellIndex], target: cell.parentElement.cells[0] };
}

// Say what a cell shows, and mark it with the two pieces that it belongs to.
function point(cell) {
  const map = cell.closest(".heat-map");
  const { source, target } = headersOf(cell);
  const facts = { source: source.dataset.piece, target: target.dataset.piece, weight: cell.textContent };
  for (const [name, text] of Object.entries(facts)) map.querySelector(`[data-fact=${name}]`).textContent = text;
  unmark(map);
  for (const one of [cell, source, target]) one.classList.add("pointed");
  place(map, cell);
}

function unmark(map) {
  for (const marked of map.querySelectorAll(".pointed")) marked.classList.remove("pointed");
  map.querySelector(".facts").hidden = true;
}

// Put the bubble above a cell, where no finger hides it, and within the width of the map.
function place(map, cell) {
  const bubble = map.querySelector(".facts");
  bubble.hidden = false;
  bubble.style.left = "0";
  const [around, at] = [map.getBoundingClientRect(), cell.getBoundingClientRect()];
  const left = at.left + at.width / 2 - around.left - bubble.offsetWidth / 2;
  bubble.style.left = `${Math.max(0, Math.min(left, around.width - bubble.offsetWidth))}px`;
  bubble.style.top = `${at.top - around.top - bubble.offsetHeight - 6}px`;
}

// The pointer has left: what has the focus is pointed at again, if anything has it.
function leave(map) {
  const focused = map.querySelector("tbody td:focus");
  if (focused) point(focused);
  else unmark(map);
}

// Write the weights of a view into the cells that are there.
function show(map, view) {
  const numbers = numbersOfViews(map)[view];
  map.querySelectorAll("tbody td").forEach((cell, number) => {
    const weight = (numbers[number] / 1000).toFixed(3);
    cell.style.setProperty("--w", weight);
    cell.textContent = weight;
  });
  const pointed = map.querySelector("td.pointed");
  if (pointed) point(pointed);
}

// One cell at a time can be reached by the Tab key; the arrow keys move on from it.
function move(cell, event) {
  const rows = cell.closest("tbody").rows;
  const row = cell.parentElement.sectionRowIndex;
  const last = cell.parentElement.cells.length - 1;
  const places = {
    ArrowLeft: [row, Math.max(1, cell.cellIndex - 1)],
    ArrowRight: [row, Math.min(last, cell.cellIndex + 1)],
    ArrowUp: [Math.max(0, row - 1), cell.cellIndex],
    ArrowDown: [Math.min(rows.length - 1, row + 1), cell.cellIndex],
    Home: [row, 1],
    End: [row, last],
  };
  if (!(event.key in places)) return;
  event.preventDefault();
  const [nextRow, nextColumn] = places[event.key];
  reach(rows[nextRow].cells[nextColumn]);
}

function reach(cell) {
  const former = cell.closest("tbody").querySelector("td[tabindex]");
  if (former) former.removeAttribute("tabindex");
  cell.tabIndex = 0;
  cell.focus();
}

const cellAt = (event) => event.target.closest(".heat-map tbody td");
for (const kind of ["pointerover", "focusin"]) {
  element.addEventListener(kind, (event) => cellAt(event) && point(cellAt(event)));
}
for (const kind of ["pointerout", "focusout"]) {
  element.addEventListener(kind, (event) => {
    const goesOn = event.relatedTarget && event.relatedTarget.closest(".heat-map tbody td");
    if (cellAt(event) && !goesOn) leave(cellAt(event).closest(".heat-map"));
  });
}
element.addEventListener("click", (event) => cellAt(event) && reach(cellAt(event)));
element.addEventListener("keydown", (event) => cellAt(event) && move(cellAt(event), event));
element.addEventListener("change", (event) => {
  if (event.target.matches(".heat-map select")) show(event.target.closest(".heat-map"), event.target.value);
});
// A scroll event does not rise to `element`, but is seen there on its way down.
element.addEventListener("scroll", () => element.querySelectorAll("td.pointed").forEach(point), true);

// A new map begins with its first view; the choice stays where it was.
watch("value", () => {
  const choice = element.querySelector(".heat-map select");
  if (choice && choice.selectedIndex > 0) show(choice.closest(".heat-map"), choice.value);
});
