// Waiting for what must come about, never for a time.

/** How long anything may take. */
export const PATIENCE_MS = 20_000;

/** Looks again and again until it is so. */
export async function until(what, look) {
  const end = Date.now() + PATIENCE_MS;
  for (;;) {
    const seen = await look();
    if (seen) return seen;
    if (Date.now() > end) throw new Error(`it did not come about that ${what}`);
    await new Promise((done) => { setTimeout(done, 20); });
  }
}
