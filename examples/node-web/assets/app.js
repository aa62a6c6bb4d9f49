import { removeOnClick } from "./remove.js";

removeOnClick(document.querySelector("ul"));
