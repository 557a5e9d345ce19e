-- Sends every mammogram to the node, but not what came from it.
local MAMMOGRAMS = {
  ['1.2.840.10008.5.1.4.1.1.1.2'] = true, -- Digital Mammography X-Ray Image, For Presentation
  ['1.2.840.10008.5.1.4.1.1.1.2.1'] = true, -- For Processing
}

function OnStoredInstance(instanceId, tags, metadata, origin)
  if MAMMOGRAMS[tags['SOPClassUID']] and origin['RemoteAet'] ~= 'MAMMOSCOPE' then
    SendToModality(instanceId, 'mammoscope')
  end
end
