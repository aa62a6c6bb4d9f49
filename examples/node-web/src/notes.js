// Notes in memory, newest first.

const TEXT_MAX = 500;

export class Notes {
  #items = [];
  #next = 1;

  add(text) {
    const trimmed = String(text ?? "").trim();
    if (trimmed === "") throw new RangeError("a note is not empty");
    if (trimmed.length > TEXT_MAX) throw new RangeError(`a note has at most ${TEXT_MAX} characters`);
    const note = { id: this.#next++, text: trimmed };
    this.#items.unshift(note);
    return note;
  }

  remove(id) {
    const before = this.#items.length;
    this.#items = this.#items.filter((note) => note.id !== id);
    return this.#items.length < before;
  }

  all() {
    return [...this.#items];
  }
}
