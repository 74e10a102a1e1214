// Runs before the page is drawn, so that a chosen theme does not replace the other one visibly.
try {
  const chosen = localStorage.getItem("moderation-theme");
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
} catch {
  // If the browser stores nothing for pages, the system's theme applies.
}
