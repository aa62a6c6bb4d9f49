// A click on a note removes it.
export function removeOnClick(list) {
  list.addEventListener("click", async ({ target }) => {
    const { id } = target.dataset;
    if (id && (await fetch(`/notes/${id}`, { method: "DELETE" })).ok) target.remove();
  });
}
