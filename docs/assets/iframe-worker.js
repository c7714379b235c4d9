// Search on a site that is opened from disk: browsers refuse workers there, so that the script of a
// worker is run in a hidden frame and given what a worker would have. Elsewhere nothing is changed.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      const waiting = []
      const frame = document.createElement("iframe")
      frame.hidden = true
      frame.title = "search"
      document.documentElement.append(frame)
      const inner = frame.contentWindow
      inner.postMessage = data => this.dispatchEvent(new MessageEvent("message", { data }))
      this.postMessage = data => waiting.push(data)
      const script = inner.document.createElement("script")
      script.src = url
      script.onload = () => {
        this.postMessage = data =>
          setTimeout(() => inner.dispatchEvent(new inner.MessageEvent("message", { data })))
        waiting.forEach(data => this.postMessage(data))
      }
      inner.document.head.append(script)
    }
    terminate() {}
  }
}
